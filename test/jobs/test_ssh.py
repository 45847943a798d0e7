"""Machines reached by ssh, and drivers of Kaldi's kind that a user has plugged in; stand-ins play both."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet2_kd.jobs.request import UsageError
from espnet2_kd.jobs.ssh import read_machines

ROOT = Path(__file__).resolve().parents[2]
# As the real one, it hands a line to the other side's shell, which starts in the home directory with little around it.
SSH = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift $(( $# > 1 && ${#1} == 2 ? 2 : 1 )); done
echo "$1" >>{folder}/hosts
[[ $1 != broken ]] || exit 255
cd /; exec env -i HOME=/ PATH=/usr/bin:/bin bash -c "$2"
"""
# As Kaldi's drivers, it joins its words into a line for the shell, and replaces JOB wherever it stands.
KALDI = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do echo "$1 $2" >>options; shift 2; done
first=1 last=1
if [[ $1 == JOB=* ]]; then range=${1#JOB=}; first=${range%:*} last=${range#*:}; shift; fi
log=$1; shift; line=$*; status=0
for ((n = first; n <= last; n++)); do
    { echo "# ${line//JOB/$n}"; eval "${line//JOB/$n}"; } >"${log//JOB/$n}" 2>&1 || status=1
done
exit $status
"""


def drive(cwd, *words, **environment):
    return subprocess.Popen(
        [sys.executable, ROOT / "utils/run.py", *words],
        cwd=cwd,
        env={**os.environ, "PATH": f"{cwd}/bin:{os.environ['PATH']}", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def recipe(tmp_path):
    """A recipe's directory with a pretended ssh and a pretended queue.pl."""
    (tmp_path / "bin").mkdir()
    for name, text in (("ssh", SSH.replace("{folder}", str(tmp_path))), ("queue.pl", KALDI)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".queue").mkdir()
    (tmp_path / ".queue/machines").write_text("left 1\nright 1  # the quick one\n")
    return tmp_path


def test_tasks_are_dealt_out_to_machines(recipe):
    """With the directory, the arguments and the variables they would have here."""
    words = (
        "JOB=1:4",
        "log/x.JOB.log",
        "bash",
        "-c",
        'pwd; echo JOB "$1" $HF_HOME; sleep 0.3',
        "-",
        "$(touch hit); a  b",
    )
    process = drive(recipe, "--backend", "ssh", *words, HF_HOME="/models")
    assert process.communicate(timeout=60) == (None, "") and process.returncode == 0
    assert sorted((recipe / "hosts").read_text().split()) == ["left", "left", "right", "right"]
    assert f"\n{recipe}\n3 $(touch hit); a  b /models\n# Acc" in (recipe / "log/x.3.log").read_text()


def test_a_machine_that_cannot_be_reached_is_named(recipe):
    (recipe / ".queue/machines").write_text("broken\n")
    process = drive(recipe, "--backend", "ssh", "log/x.log", "true")
    assert "log/x.log: its node failed" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_tasks_end_with_the_driver(recipe, sign, all_end):
    process = drive(recipe, "--backend", "ssh", "log/x.log", "bash", "-c", "echo $$ >pid; exec sleep 60")
    deadline = time.monotonic() + 30
    while not ((recipe / "pid").exists() and (recipe / "pid").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sign)
    process.wait(60)
    assert all_end([int((recipe / "pid").read_text())])


@pytest.mark.parametrize("line", ["left 0", "left two", "left 1 2", "-oProxyCommand=x"])
def test_a_wrong_list_of_machines_is_refused(tmp_path, line):
    path = tmp_path / "machines"
    path.write_text(f"# ours\n{line}\n")
    with pytest.raises(UsageError, match="machines:2: "):
        read_machines(path)
    with pytest.raises(UsageError, match="list the machines"):
        read_machines(tmp_path / "none")
    path.write_bytes(b"left\n\xff")
    with pytest.raises(UsageError, match="machines: cannot be read .*utf-8"):
        read_machines(path)


def test_a_users_own_driver_submits_our_tasks(recipe):
    """It is given the options, and nothing that it could quote wrongly; what failed is told, and only that runs again."""
    script = "echo >>ran.JOB; echo epoch JOBS; test -e fixed || test JOB -ne 2"
    words = ("--pick", "failed,incomplete", "--follow", "^epoch", "JOB=1:3", "log/x.JOB.log", "bash", "-c", script)
    plugged = ("--driver", "queue.pl", "--config", "my.conf", "--mem", "4G")
    process = drive(recipe, *plugged, *words)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 1
    assert "  log/x.2.log: exit code 1" in said and said.count("epoch JOBS") == 3
    assert sorted((recipe / "options").read_text().splitlines()) == ["--config my.conf", "--mem 4G"]
    (recipe / "fixed").touch()
    process = drive(recipe, *plugged, *words)
    assert process.communicate(timeout=60)[1].splitlines() == ["epoch JOBS"] and process.returncode == 0
    assert [len((recipe / f"ran.{n}").read_text()) for n in (1, 2, 3)] == [1, 2, 1]


def test_a_driver_that_is_not_there_is_named(recipe):
    process = drive(recipe, "--driver", "qeueu.pl", "log/x.log", "true")
    assert process.communicate(timeout=60)[1] == "run.py: qeueu.pl: No such file or directory\n"
    assert process.returncode == 1
