"""The job driver: Kaldi's log format, arrays, failures, reruns, interruption."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet2_kd.jobs.job import substitute
from espnet2_kd.jobs.request import parse

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "utils/run.py"


def run(*args, cwd, **kwargs):
    return subprocess.run([sys.executable, RUN, *args], cwd=cwd, capture_output=True, text=True, **kwargs)


def test_log_has_kaldis_format(tmp_path):
    """As run.pl documents it: command, start, output, accounting, end."""
    assert run("--num-threads", "2", "log/a.log", "echo", "two words", cwd=tmp_path).returncode == 0
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
    expected = (
        r"# echo 'two words'\n"
        rf"# Started at {date}\n"
        r"#\n"
        r"two words\n"
        r"# Accounting: time=\d+ threads=2\n"
        r"# Accounting: peak_memory_kb=\d{4,7}\n"
        rf"# Ended \(code 0\) at {date}, elapsed time \d+ seconds\n"
    )
    assert re.fullmatch(expected, (tmp_path / "log/a.log").read_text())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("JOB", "7"),
        ("log/x.JOB.log", "log/x.7.log"),
        ("part_JOB/text", "part_7/text"),
        ("JOBS", "JOBS"),
        ("MYJOB/JOB", "MYJOB/7"),
        ("JOB1", "JOB1"),
        ("a=JOB,b=JOB", "a=7,b=7"),
    ],
)
def test_job_is_replaced_as_a_word_only(text, expected):
    assert substitute(text, "JOB", 7) == expected


def test_every_job_of_an_array_runs_once(tmp_path):
    assert run("JOB=3:6", "log/x.JOB.log", "sh", "-c", "echo JOB >>ran.JOB", cwd=tmp_path).returncode == 0
    assert {p.name: p.read_text() for p in tmp_path.glob("ran.*")} == {f"ran.{n}": f"{n}\n" for n in range(3, 7)}
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == [f"x.{n}.log" for n in range(3, 7)]


def test_options_stand_on_both_sides_of_the_array():
    request = parse(["--mem", "4G", "JOB=1:2", "--max-jobs-run", "1", "--gpu=0", "l.JOB", "c", "--gpu", "9"])
    assert request.options == {"mem": "4G", "max_jobs_run": "1", "gpu": "0"}
    assert [job.argv for job in request.jobs()] == [["c", "--gpu", "9"]] * 2


@pytest.mark.parametrize(
    "words",
    [
        ["x.log"],
        ["JOB=3:1", "x.JOB.log", "true"],
        ["JOB=1:2", "x.log", "true"],
        ["--memory", "4G", "x.log", "true"],
        ["--num-threads", "two", "x.log", "true"],
        ["--num-nodes", "2", "x.log", "true"],
        ["--backend", "lsf", "x.log", "true"],
        ["--follow", "(", "x.log", "true"],
    ],
)
def test_wrong_command_lines_are_refused(tmp_path, words):
    assert run(*words, cwd=tmp_path).returncode == 2
    assert not list(tmp_path.iterdir())


def test_nothing_is_evaluated_by_a_shell(tmp_path):
    run("a.log", "echo", "$(touch hit)", ";", "touch", "hit", cwd=tmp_path)
    assert "$(touch hit) ; touch hit\n" in (tmp_path / "a.log").read_text()
    assert not (tmp_path / "hit").exists()


def test_at_most_so_many_jobs_run_at_a_time(tmp_path):
    command = "mkdir running.JOB; ls -d running.* | wc -l >>counts; sleep 0.15; rmdir running.JOB"
    assert run("--max-jobs-run", "2", "JOB=1:6", "x.JOB.log", "sh", "-c", command, cwd=tmp_path).returncode == 0
    counts = [int(word) for word in (tmp_path / "counts").read_text().split()]
    assert len(counts) == 6
    assert max(counts) == 2


def test_failures_are_counted_and_named(tmp_path):
    result = run("JOB=1:4", "x.JOB.log", "sh", "-c", "test JOB -lt 3 || exit JOB", cwd=tmp_path)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "run.pl: 2 / 4 failed, log is in x.*.log"
    assert lines[1:3] == ["  x.3.log: exit code 3", "  x.4.log: exit code 4"]
    assert "# Ended (code 3) at" in (tmp_path / "x.3.log").read_text()


def test_a_single_failure_has_kaldis_line(tmp_path):
    result = run("x.log", "false", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "run.pl: job failed, log is in x.log"


def test_what_a_failed_command_said_last_is_shown(tmp_path):
    result = run("x.log", "sh", "-c", "echo step 1; echo no tap of this name; echo; exit 1", cwd=tmp_path)
    assert result.stderr.splitlines()[1:] == ["  x.log: exit code 1", "    no tap of this name"]


def test_a_killed_job_says_so(tmp_path):
    result = run("x.log", "sh", "-c", "kill -9 $$", cwd=tmp_path)
    assert "x.log: killed by SIGKILL (out of memory?)" in result.stderr
    assert "# Ended (code 1; signal 9) at" in (tmp_path / "x.log").read_text()


def test_a_command_that_does_not_exist_fails_with_its_name(tmp_path):
    result = run("JOB=1:2", "x.JOB.log", "no-such-command", cwd=tmp_path)
    assert result.returncode == 1
    assert "run.pl: 2 / 2 failed" in result.stderr
    assert "no-such-command" in (tmp_path / "x.1.log").read_text().splitlines()[3]


@pytest.mark.parametrize(
    ("pick", "again"),
    [("failed", {2}), ("incomplete", {3, 4}), ("failed,incomplete", {2, 3, 4}), ("all", {1, 2, 3, 4})],
)
def test_only_the_picked_jobs_run_again(tmp_path, pick, again):
    """Job 1 is done, 2 failed, 3 was killed with its driver, 4 was another command."""
    words = ["JOB=1:4", "x.JOB.log", "sh", "-c", "echo >>ran.JOB; test -e fixed || test JOB -ne 2"]
    assert run(*words, cwd=tmp_path).returncode == 1
    log = tmp_path / "x.3.log"
    log.write_text(log.read_text().split("# Accounting")[0])
    log = tmp_path / "x.4.log"
    log.write_text(log.read_text().replace("echo", "printf", 1))
    for path in tmp_path.glob("ran.*"):
        path.unlink()
    (tmp_path / "fixed").touch()
    assert run("--pick", pick, *words, cwd=tmp_path).returncode == 0
    assert {int(path.suffix[1:]) for path in tmp_path.glob("ran.*")} == again


def test_a_command_that_has_saved_its_state_says_how_to_go_on(tmp_path):
    result = run("x.log", "sh", "-c", "exit 85", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == [
        "  x.log: interrupted, its state is saved: run again to go on (exit code 85)"
    ]


def test_an_interrupted_command_may_save_while_its_helpers_live(tmp_path, all_end):
    """As a training that needs its data loaders to end its step: they are ended after it."""
    script = 'sleep 60 & echo $! >pid; trap "sleep 0.3; kill -0 $! && echo alive >seen; exit 85" TERM; wait'
    process = subprocess.Popen([sys.executable, RUN, "x.log", "bash", "-c", script], cwd=tmp_path)
    helper = written_pid(tmp_path)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert (tmp_path / "seen").read_text() == "alive\n"
    assert all_end([helper])
    assert "# Ended (code 85) at" in (tmp_path / "x.log").read_text()


def test_earlier_logs_are_kept_on_request(tmp_path):
    for word in ("first", "second", "third"):
        run("--rotate", "x.log", "echo", word, cwd=tmp_path)
    assert [
        re.search("first|second|third", (tmp_path / name).read_text())[0] for name in ("x.log.1", "x.log.2", "x.log")
    ] == ["first", "second", "third"]


def test_followed_lines_are_shown(tmp_path):
    script = "for i in 1 2 3; do echo epoch $i; echo noise; done"
    result = run("--follow", "^epoch", "x.log", "sh", "-c", script, cwd=tmp_path)
    assert result.stderr.splitlines() == ["epoch 1", "epoch 2", "epoch 3"]


def test_a_terminal_gets_a_bar(tmp_path):
    script = "for i in 1 2 3 4; do echo step $i/4; sleep 0.12; done"
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, RUN, "--follow", "step", "x.log", "sh", "-c", script], cwd=tmp_path, stderr=child
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    assert process.wait(60) == 0
    assert b"[##########..........] 2/4 step 2/4" in shown or b"[####################] 4/4" in shown
    assert shown.endswith(b"\r\x1b[K")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_leaves_no_job_behind(tmp_path, sign, all_end):
    """Neither the jobs nor their children live on, and the logs tell why they ended."""
    script = "sleep 60 & echo $! >pid.JOB; wait"
    process = subprocess.Popen(
        [sys.executable, RUN, "--max-jobs-run", "2", "JOB=1:3", "x.JOB.log", "bash", "-c", script],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and sum(p.stat().st_size > 0 for p in tmp_path.glob("pid.*")) < 2:
        time.sleep(0.02)
    children = [int(path.read_text()) for path in tmp_path.glob("pid.*")]
    assert len(children) == 2
    process.send_signal(sign)
    assert process.wait(15) == 128 + sign
    assert all_end(children)
    assert "signal 15" in (tmp_path / "x.1.log").read_text().splitlines()[-1]
    assert not (tmp_path / "x.3.log").exists()


def test_a_signal_while_a_job_starts_ends_that_job_too(tmp_path, all_end):
    """The signal comes when the process exists and the driver has not yet noted it."""
    program = f"""
import os, signal, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from espnet2_kd.jobs import driver
popen = subprocess.Popen
def interrupted(*args, **options):
    process = popen(*args, **options)
    while not (os.path.exists("pid") and os.path.getsize("pid")):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    return process
subprocess.Popen = interrupted
sys.exit(driver.main(["x.log", "bash", "-c", "sleep 60 & echo $! >pid; wait"]))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=40)
    assert ended.returncode == 128 + signal.SIGINT, ended.stderr
    assert all_end([int((tmp_path / "pid").read_text())])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot do this")
def test_a_killed_driver_takes_its_jobs_along(tmp_path, all_end):
    """Else a rerun would find the old training at work in the same directory."""
    driver = subprocess.Popen(
        [sys.executable, RUN, "x.log", "bash", "-c", "echo $$ >pid; sleep 60 & wait"], cwd=tmp_path
    )
    job = written_pid(tmp_path)
    assert not all_end([job], seconds=0)
    driver.kill()
    driver.wait()
    assert all_end([job])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot do this")
@pytest.mark.parametrize("in_recipe", [True, False])
def test_a_killed_recipe_takes_its_drivers_along(tmp_path, in_recipe, all_end):
    """Even where its warden, which would end them, was killed too; by hand a driver may outlive its shell."""
    environment = {key: value for key, value in os.environ.items() if key != "KD_RUN"}
    if in_recipe:
        environment["KD_RUN"] = str(tmp_path)
    job = "echo $$ >pid; sleep 1.5; echo over >end"
    shell = subprocess.Popen(
        ["bash", "-c", '"$@" & wait', "bash", sys.executable, RUN, "x.log", "bash", "-c", job],
        cwd=tmp_path,
        env=environment,
    )
    pid = written_pid(tmp_path)
    shell.kill()
    shell.wait()
    assert all_end([pid])
    assert (tmp_path / "end").exists() != in_recipe


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot do this")
def test_a_killed_recipe_gives_its_training_time_to_save(tmp_path, all_end):
    """Its driver is told twice, by Linux and by the warden: that is no impatience."""
    job = "trap 'sleep 1.5; exit 85' TERM; echo $$ >pid; while true; do sleep 0.1; done"
    script = '"$@" & echo $! >driver; wait'
    shell = subprocess.Popen(
        ["bash", "-c", script, "bash", sys.executable, RUN, "x.log", "bash", "-c", job],
        cwd=tmp_path,
        env={**os.environ, "KD_RUN": str(tmp_path)},
    )
    job_pid = written_pid(tmp_path)
    shell.kill()
    shell.wait()
    time.sleep(0.3)
    driver = int((tmp_path / "driver").read_text())
    os.kill(driver, signal.SIGTERM)
    assert all_end([job_pid, driver])
    assert "# Ended (code 85) at" in (tmp_path / "x.log").read_text()


def written_pid(folder: Path) -> int:
    """What a job writes into `pid`, once it has."""
    deadline = time.monotonic() + 60
    pid = folder / "pid"
    while time.monotonic() < deadline and not (pid.exists() and pid.stat().st_size):
        time.sleep(0.02)
    return int(pid.read_text())


def test_num_threads_reach_the_job(tmp_path):
    run("--num-threads", "3", "x.log", "sh", "-c", "echo threads=$OMP_NUM_THREADS", cwd=tmp_path)
    assert "threads=3\n" in (tmp_path / "x.log").read_text()
