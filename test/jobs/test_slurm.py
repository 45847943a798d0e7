"""The driver against a real Slurm: arrays, faults with their reasons, reruns, requeueing, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "utils/run.py"
SMALL = ("--backend", "slurm", "--mem", "60M")
SECONDS = 60  # more than any of these takes


@pytest.fixture
def start(slurm, tmp_path):
    """Return a function that starts the driver in a directory that nodes see."""
    tmp_path.chmod(0o755)
    started = []

    def call(*words, environment=None):
        process = subprocess.Popen(
            [sys.executable, RUN, *SMALL, *words],
            cwd=tmp_path,
            env={**slurm.environment, **(environment or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(SECONDS)


def finish(process) -> tuple[int, list[str]]:
    """Wait for the driver and return its status and what it said."""
    _, said = process.communicate(timeout=SECONDS)
    return process.returncode, said.splitlines()


def wait_for(path: Path, text: str = "", seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{path}: {path.read_text() if path.exists() else 'missing'}"
        time.sleep(0.05)


def states(tmp_path, name="x"):
    return json.loads((tmp_path / f"log/q/{name}/states.json").read_text())["states"]


def test_an_array_runs_as_arrays_no_larger_than_slurm_takes(slurm, start, tmp_path):
    """The cluster's MaxArraySize is 6: indices 0 to 5. Tasks get the submitting shell's variables and Kaldi's log."""
    script = "echo said N $HF_HOME; echo $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID >ids.N"
    process = start("N=1:8", "log/x.N.log", "bash", "-c", script, environment={"HF_HOME": "/models of mine"})
    assert finish(process) == (0, [])
    ids = {n: (tmp_path / f"ids.{n}").read_text().split() for n in range(1, 9)}
    assert {ids[n][0] for n in range(1, 6)} != {ids[n][0] for n in range(6, 9)}
    assert [int(ids[n][1]) for n in range(1, 9)] == [1, 2, 3, 4, 5, 0, 1, 2]
    assert len({array for array, _ in ids.values()}) == 2
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
    log = (tmp_path / "log/x.7.log").read_text()
    assert re.fullmatch(
        rf"# Running on \S+\n# Started at {date}\n(# SLURM_\w+=.*\n)+# bash -c '.*'\nsaid 7 /models of mine\n"
        r"# Accounting: begin_time=\d+\n# Accounting: end_time=\d+\n# Accounting: time=\d+ threads=1\n"
        r"# Accounting: peak_memory_kb=\d{4,7}\n"
        rf"# Finished at {date} with status 0\n",
        log,
    ), log
    assert list(states(tmp_path).values()) == [["done", ""]] * 8
    for path in (tmp_path / "log/q", tmp_path / "log/q/x"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "log/q/x/environment.json").exists()


def test_failures_are_named_and_only_they_run_again(slurm, start, tmp_path):
    """Killed, by its own fault, over memory: within ten seconds each, and a rerun repeats no more."""
    script = """
        echo >>ran.JOB
        test -e fixed && exit 0
        case JOB in
            4) kill -9 $$ ;;
            5) exit 7 ;;
            7) python3 -c 'import time; waste = bytearray(300 << 20); time.sleep(60)' ;;
        esac
    """
    words = ("JOB=4:7", "log/x.JOB.log", "bash", "-c", script)
    reasons = {
        4: "log/x.4.log: killed by SIGKILL (out of memory?)",
        5: "log/x.5.log: exit code 7",
        7: "log/x.7.log: out of memory (give it more with --mem)",
    }
    process = start(*words)
    told = {line.strip().removeprefix("run.py: "): time.time() for line in (process.stderr.readline() for _ in reasons)}
    code, said = finish(process)
    assert code == 1
    assert said == [
        "run.pl: 3 / 4 failed, log is in log/x.*.log",
        *(f"  {reason}" for reason in reasons.values()),
        "  `--pick failed,incomplete` runs only these again.",
    ]
    # A task that Slurm kills with all its processes leaves only what Slurm writes: of index 1 of the second array.
    ended = {n: json.loads((tmp_path / f"log/q/x/{n}.json").read_text())["ended"] for n in (4, 5)}
    ended[7] = (tmp_path / "log/q/x/6+1.out").stat().st_mtime
    assert all(0 < told[reason] - ended[number] < 10 for number, reason in reasons.items())
    assert states(tmp_path)["7"] == ["failed", "out of memory (give it more with --mem)"]

    (tmp_path / "fixed").touch()
    assert finish(start("--pick", "failed,incomplete", *words)) == (0, [])
    assert [len((tmp_path / f"ran.{n}").read_text()) for n in range(4, 8)] == [2, 2, 1, 2]


def test_a_task_that_somebody_cancels_is_named_at_once(slurm, start, tmp_path):
    process = start("JOB=1:2", "log/x.JOB.log", "bash", "-c", "echo >began.JOB; test JOB = 1 || sleep 60")
    wait_for(tmp_path / "began.2")
    (task,) = {line[0] for line in slurm.queue() if line[0].endswith("_2")}
    slurm.ask("scancel", task)
    began = time.monotonic()
    assert process.stderr.readline().startswith("run.py: log/x.2.log: cancelled")
    assert time.monotonic() - began < 10
    assert finish(process)[0] == 1
    assert states(tmp_path)["2"] == ["failed", "cancelled (somebody took it out of the queue)"]


def test_a_preempted_job_is_waited_for(slurm, start, tmp_path):
    """Slurm puts it back into its queue when urgent work wants the node, and starts it again later."""
    process = start("log/x.log", "bash", "-c", "echo >>began; test -e again || sleep 60")
    wait_for(tmp_path / "began", "\n")
    slurm.ask("sbatch", "-p", "urgent", "--exclusive", "--mem=50", "--output=/dev/null", "--wrap=true")
    assert process.stderr.readline() == "run.py: log/x.log: the scheduler has put it back into the queue\n"
    wait_for(tmp_path / "log/q/x/states.json", '"pending')
    (tmp_path / "again").touch()
    (task,) = {line[0] for line in slurm.queue() if line[2] == "x"}
    slurm.ask("scontrol", "update", f"JobId={task}", "StartTime=now")  # Slurm itself waits for two minutes
    assert finish(process) == (0, [])
    assert (tmp_path / "began").read_text() == "\n\n"
    log = (tmp_path / "log/x.log").read_text()
    assert log.count("# Started at") == 2 and log.count("with status 0\n") == 1


def test_a_job_that_is_told_to_save_goes_on_afterwards(slurm, start, tmp_path):
    """SIGUSR1, as Slurm sends it to the script before its time is up; exit code 85 has it submitted again."""
    script = "test -e saved && exit 0; trap 'touch saved; kill $!; exit 85' USR1; sleep 60 & echo >began; wait"
    process = start("--save-seconds", "30", "--rotate", "log/x.log", "bash", "-c", script)
    wait_for(tmp_path / "began")
    (task,) = {line[0] for line in slurm.queue() if line[2] == "x"}
    slurm.ask("scancel", "--signal=USR1", "--batch", task)
    assert finish(process) == (0, ["run.py: log/x.log: interrupted, its state is saved: submitted again"])
    assert "with status 85\n" in (tmp_path / "log/x.log.1").read_text()
    assert "with status 0\n" in (tmp_path / "log/x.log").read_text()


def test_ctrl_c_leaves_no_job_behind(slurm, start, tmp_path, all_end):
    """Neither those that run nor those that wait; and the driver opens no socket, so none that listens."""
    script = "sleep 60 & echo $! >pid.JOB; wait"
    process = start("--max-jobs-run", "2", "JOB=1:5", "log/x.JOB.log", "bash", "-c", script)
    for number in (1, 2):
        wait_for(tmp_path / f"pid.{number}", "\n")
    assert sorted(state for _, state, name in slurm.queue() if name == "x") == ["PENDING"] * 3 + ["RUNNING"] * 2
    descriptors = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert descriptors and not any(name.startswith("socket:") for name in descriptors)
    children = [int((tmp_path / f"pid.{number}").read_text()) for number in (1, 2)]
    process.send_signal(signal.SIGINT)
    assert finish(process) == (128 + signal.SIGINT, [])
    assert [line for line in slurm.queue() if line[2] == "x"] == []
    assert all_end(children, seconds=0)
    assert list(states(tmp_path).values()) == [["cancelled", ""]] * 5


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGHUP])
def test_jobs_of_a_driver_that_is_gone_are_taken_over(slurm, start, tmp_path, sign):
    """A login node that goes down takes no training along; the next run waits for it, and starts what is missing."""
    words = (
        "JOB=1:3",
        "log/x.JOB.log",
        "bash",
        "-c",
        "echo >>ran.JOB; test JOB = 1 || until test -e go; do sleep 0.1; done",
    )
    process = start("--max-jobs-run", "2", *words)
    wait_for(tmp_path / "ran.2", "\n")
    process.send_signal(sign)
    process.wait(SECONDS)
    process = start("--max-jobs-run", "2", "--pick", "failed,incomplete", *words)
    assert "still in the queue from an earlier run: taken over" in process.stderr.readline()
    (tmp_path / "go").touch()
    assert finish(process) == (0, [])
    assert [(tmp_path / f"ran.{n}").read_text() for n in (1, 2, 3)] == ["\n"] * 3


def test_what_slurm_refuses_is_said_in_its_words(slurm, start, tmp_path):
    """An option that the conf file has no line for never gets there."""
    code, said = finish(start("--time", "soon", "log/x.log", "true"))
    assert code == 1 and "Invalid --time specification" in said[0]
    code, said = finish(start("--partition", "usual", "log/y.log", "true"))
    assert code == 2 and "conf/slurm.conf has no line `option partition=* ...`" in said[0]
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/slurm.conf").write_text("command sbatch\noption mem=* --mem $0\noption partition=* -p $0\n")
    script = "echo $SLURM_JOB_PARTITION >partition"
    assert finish(start("--partition", "urgent", "log/y.log", "bash", "-c", script)) == (0, [])
    assert (tmp_path / "partition").read_text() == "urgent\n"
