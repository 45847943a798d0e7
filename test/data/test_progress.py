"""Bars with rate and remaining time on a real terminal, plain lines in a log, and nothing of what is quick."""

import io
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from espnet2_kd.data import progress
from espnet2_kd.data.progress import Progress, format_rate, format_seconds, tracked


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_lines_of_a_log_say_how_much_how_fast_and_how_long(clock):
    log = io.StringIO()
    with Progress("work", 600, stream=log) as shown:
        for seconds, count in ((5, 50), (5, 50), (5, 5), (15, 295), (20, 200)):
            clock.now += seconds
            shown.step(count)
    assert log.getvalue().splitlines() == [
        "work: 100/600, 10/s, 50 s left",
        "work: 400/600, 13/s, 15 s left",
        "work: 600/600, 12/s, in 50 s",
    ]


def test_what_was_done_before_does_not_make_it_faster(clock):
    log = io.StringIO()
    with Progress("fetch", 1000, stream=log, unit="MiB", done=900) as shown:
        clock.now += 20
        shown.step(10)
        clock.now += 180
        shown.step(90)
    assert log.getvalue().splitlines() == [
        "fetch: 910/1000 MiB, 2.0 s each, 3 min 00 s left",
        "fetch: 1000/1000 MiB, 2.0 s each, in 3 min 20 s",
    ]


def test_nothing_is_said_of_what_is_quick_and_the_end_of_what_is_not(clock):
    log = io.StringIO()
    with Progress("quick", 5, stream=log) as shown:
        clock.now += 1.9
        shown.step(5)
    assert log.getvalue() == ""
    with Progress("slower", 5, stream=log) as shown:
        clock.now += 2.5
        shown.step(5)
    assert log.getvalue() == "slower: 5/5, 2.0/s, in 2 s\n"


def test_what_fails_leaves_how_far_it_came(clock):
    log = io.StringIO()
    with pytest.raises(KeyError), Progress("work", 5, stream=log) as shown:
        clock.now += 4
        shown.step(2)
        raise KeyError
    assert log.getvalue() == "work: 2/5, 2.0 s each, 6 s left\n"


def test_items_come_as_they_are(capsys):
    assert list(tracked("work", ["a", "b"])) == ["a", "b"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (4320, "1 h 12 min")],
)
def test_durations(seconds, words):
    assert format_seconds(seconds) == words


def test_rates():
    assert [format_rate(x) for x in (0.4, 1.25, 9.96, 31.4)] == ["2.5 s each", "1.2/s", "10.0/s", "31/s"]
    assert format_rate(3, "MiB") == "3.0 MiB/s"


PROGRAM = """
import sys, time
from espnet2_kd.data.progress import Progress
with Progress("work", 20) as progress:
    for _ in range(20):
        time.sleep(float(sys.argv[1]))
        progress.step()
"""


def on_a_terminal(*command):
    """What a program writes to a terminal of 80 columns, its standard error."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", *command], stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 4096):
            written += chunk
    except OSError:  # how a terminal ends whose other side is closed
        pass
    assert process.wait() == 0
    os.close(ours)
    return written.decode()


def test_a_bar_on_a_terminal():
    frames = re.split(r"\r+", on_a_terminal(PROGRAM, "0.06").rstrip())
    assert frames[-1].startswith("work: 100%|") and "20/20 [" in frames[-1]
    assert any(re.search(r"work: +\d+%\|.*\| \d+/20 \[00:0\d<00:0\d, +[\d.]+/s\]", frame) for frame in frames)
    assert on_a_terminal(PROGRAM, "0.001") == ""


def test_no_bar_where_there_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", PROGRAM, "0.11"], capture_output=True, text=True)
    assert re.fullmatch(r"work: 20/20, [\d.]+/s, in \d s\n", done.stderr)
