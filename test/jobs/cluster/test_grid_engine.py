"""The driver against a real Grid Engine."""

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CONF = "command qsub -cwd -S /bin/bash\noption time=* -l h_rt=$0\noption mem=* -l h_vmem=$0\noption gpu=*\n"


def drive(grid_engine, cwd, *words):
    (cwd / "conf").mkdir(exist_ok=True)
    (cwd / "conf/sge.conf").write_text(CONF)
    return subprocess.Popen(
        [sys.executable, ROOT / "utils/run.py", "--backend", "sge", *words],
        cwd=cwd,
        env=grid_engine.environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_arrays_faults_and_reruns(grid_engine, tmp_path):
    """A stretch with a gap in it is two arrays; a task over its time, and one that fails by itself, are named."""
    tmp_path.chmod(0o755)
    script = "echo >>ran.JOB; test -e fixed || test JOB -ne 3 -a JOB -ne 1 || exit JOB"
    array = ("JOB=1:4", "log/x.JOB.log", "bash", "-c", script)
    late = drive(grid_engine, tmp_path, "--time", "3", "log/late.log", "sleep", "60")
    first = drive(grid_engine, tmp_path, *array)
    assert first.communicate(timeout=60)[1].splitlines()[-4:-1] == [
        "run.pl: 2 / 4 failed, log is in log/x.*.log",
        "  log/x.1.log: exit code 1",
        "  log/x.3.log: exit code 3",
    ]
    (tmp_path / "fixed").touch()
    again = drive(grid_engine, tmp_path, "--pick", "failed,incomplete", *array)
    assert again.communicate(timeout=60) == (None, "") and again.returncode == 0
    assert [len((tmp_path / f"ran.{n}").read_text()) for n in range(1, 5)] == [2, 1, 2, 1]
    assert late.communicate(timeout=60)[1].splitlines()[-1] == (
        "  log/late.log: over its time limit (give it more with --time)"
    )


def test_ctrl_c_leaves_no_job_behind(grid_engine, tmp_path):
    tmp_path.chmod(0o755)
    process = drive(
        grid_engine, tmp_path, "--max-jobs-run", "1", "JOB=1:3", "log/x.JOB.log", "bash", "-c", "echo >on; sleep 60"
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "on").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT
    assert "kd_x" not in grid_engine.ask("qstat", "-u", "*")
