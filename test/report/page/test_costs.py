"""Costs are what stamps, logs and files say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet2_kd.report.page.costs import format_bytes, format_seconds, read_costs

from .conftest import job_log, stamp

ROOT = Path(__file__).resolve().parents[3]


def test_steps_of_stages(tmp_path):
    exp, out = tmp_path / "exp/asr_x_seed1", tmp_path / "exp/asr_x_seed1/decode/test"
    stamp(tmp_path / "data/.done", "data", 12)
    stamp(exp / ".done", "distill", 600)
    job_log(exp / "train.log.1", 100, 900_000)
    job_log(exp / "train.log", 590, 800_000)
    stamp(out / ".streamed", "decode", 31)
    job_log(out / "stream.log", 30, 300_000)
    stamp(out / "logdir/.done", "decode", 50)
    for n in (1, 2):
        job_log(out / f"logdir/decode.{n}.log", 40 + n, 200_000 + n)
    old = exp / ".packed"
    old.write_text("key  -\n")
    old.with_name(".packed.lock").touch()
    job_log(exp / "pack.log", 7, 5)
    (tmp_path / "data/.stray").write_text("stage=data seconds=99\n")
    for n, path in enumerate([tmp_path / "data/.done", exp / ".done", out / ".streamed", out / "logdir/.done", old]):
        os.utime(path, (n, n))
    stages, _ = read_costs(tmp_path, ["data", "exp", "nowhere"])
    assert [stage.stage for stage in stages] == ["data", "distill", "decode", "not recorded"]
    data, distill, decode, packed = stages
    assert (data.seconds, data.job_seconds, data.peak_kb) == (12, None, None)
    (step,) = distill.steps
    assert (step.where, step.seconds, step.num_jobs) == ("exp/asr_x_seed1/.done", 600, 2)
    assert (step.job_seconds, step.peak_kb) == (690, 900_000)
    assert (decode.seconds, decode.job_seconds, decode.peak_kb) == (81, 30 + 41 + 42, 300_000)
    assert (packed.seconds, packed.unknown, packed.job_seconds) == (None, 1, 7)


def test_disk(tmp_path):
    (tmp_path / "dump/raw/test").mkdir(parents=True)
    (tmp_path / "dump/raw/test/a").write_bytes(b"x" * 1000)
    os.link(tmp_path / "dump/raw/test/a", tmp_path / "dump/raw/b")
    (tmp_path / "exp/e").mkdir(parents=True)
    (tmp_path / "exp/e/model").write_bytes(b"x" * 5000)
    (tmp_path / "exp/e/ave").symlink_to("model")
    (tmp_path / "exp/e/downloads").mkdir()
    (tmp_path / "exp/e/downloads/big").write_bytes(b"x" * 9000)
    link = len("model")
    disks = {disk.where: (disk.num_files, disk.size) for disk in read_costs(tmp_path, ["dump", "exp"])[1]}
    assert disks == {"exp/e": (2, 5000 + link), "dump/raw": (1, 1000)}


def test_what_once_and_the_driver_write(tmp_path):
    """The two that leave these records, and the one that reads them."""
    eater = "x = bytearray(150_000_000); x[::4096] = b'x' * len(x[::4096]); import time; time.sleep(1.1)"
    once = (
        f'once exp/x/.done -- {sys.executable} {ROOT}/utils/run.py JOB=1:2 exp/x/job.JOB.log {sys.executable} -c "$1"'
    )
    lines = [
        "set -euo pipefail",
        f". {ROOT}/utils/log.sh; . {ROOT}/utils/once.sh",
        'STAGES=("" data distill) number=2',
        *[once] * 2,
    ]
    (tmp_path / "stage.sh").write_text("\n".join(lines) + "\n")
    command = ["bash", "stage.sh", eater]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("Done before") == 1
    ((stage,), _) = read_costs(tmp_path, ["exp"])
    (step,) = stage.steps
    assert (stage.stage, step.num_jobs) == ("distill", 2)
    assert 1 <= step.seconds < 60 and step.job_seconds >= 2
    assert 150_000_000 / 1024 < step.peak_kb < 400_000_000 / 1024


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (150_000, "150 kB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")],
)
def test_sizes(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "not recorded"), (0, "0 s"), (99, "99 s"), (600, "10 min"), (4000, "1 h 07 min")]
)
def test_times(seconds, text):
    assert format_seconds(seconds) == text
