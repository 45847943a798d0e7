"""A whole recipe through Slurm's arrays, what is left of it after Ctrl-C, and a time limit. Minutes: `make test-cluster`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
CONF = """command sbatch
option time=* --time $0
option num_threads=* --cpus-per-task $0
default gpu=0
option gpu=0
default mem=1900M
option mem=* --mem $0
"""
TINY = (
    *("--synthetic", "true", "--num_threads", "1", "--ngpu", "0", "--nbpe", "40"),
    *("--distill_configs", "conf/train_kd_aux.yaml", "--seeds", "1"),
    *("--asr_args", "--max_epoch 1 --num_iters_per_epoch 4 --batch_bins 300000 --scheduler_conf max_lr=0.0001"),
)
TIMEOUT = 1200  # seconds
DECODED = "exp/asr_train_kd_aux_seed1/decode_decode_valid.loss_transducer.ave/test"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A copy of egs2/mini/asr1 below a project of links to this one, with a conf/slurm.conf of its own."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("no espeak-ng")
    project = tmp_path_factory.mktemp("project")
    project.chmod(0o755)
    for name in ("espnet2_kd", "utils", "tools", "egs2/TEMPLATE"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).symlink_to(ROOT / name)
    source, target = ROOT / "egs2/mini/asr1", project / "egs2/mini/asr1"
    target.mkdir(parents=True)
    shutil.copy(source / "run.sh", target)
    for name in ("local", "conf"):
        shutil.copytree(source / name, target / name)
    (target / "conf/slurm.conf").write_text(CONF)
    return target


def start(slurm, recipe, *options, backend="slurm"):
    """Start run.sh in a process group of its own, as a terminal does."""
    environment = {**slurm.environment, "KD_VENV": sys.prefix, "OMP_NUM_THREADS": "1", "cmd_backend": backend}
    return subprocess.Popen(
        ["bash", recipe / "run.sh", *TINY, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def drive(slurm, cwd, *words):
    """Run the driver to its end."""
    return subprocess.run(
        [sys.executable, ROOT / "utils/run.py", "--backend", "slurm", *words],
        cwd=cwd,
        env=slurm.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def finish(process):
    said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, said[-5000:]
    assert "Successfully finished." in said
    return said


def table(path):
    return dict([*line.split(" ", 1), ""][:2] for line in path.read_text(encoding="utf-8").splitlines())


def test_the_whole_recipe(slurm, recipe):
    """Every stage that submits does so through Slurm; decoded in fewer jobs, nothing of the others is mixed in."""
    finish(start(slurm, recipe, "--nj", "3", "--inference_nj", "3"))
    logs = {
        "dump/raw/org/train/format.{}.log": 3,
        "exp/asr_stats_raw_bpe_unigram40/logdir/stats.{}.log": 3,
        f"{DECODED}/logdir/decode.{{}}.log": 3,
    }
    for name, number in logs.items():
        paths = [recipe / name.format(n) for n in range(1, number + 1)]
        assert len({re.search(r"# SLURM_ARRAY_JOB_ID='(\d+)'", path.read_text())[1] for path in paths}) == 1
        assert not (recipe / name.format(number + 1)).exists()
    assert "# SLURM_JOB_ID=" in (recipe / "exp/asr_train_kd_aux_seed1/train.log").read_text()
    assert slurm.queue() == []
    text = table(recipe / DECODED / "text")
    assert text.keys() == table(recipe / "data/test/text").keys()
    assert "train_kd_aux" in (recipe / "RESULTS.md").read_text()

    said = finish(start(slurm, recipe, "--nj", "3", "--inference_nj", "2", "--stage", "6", "--stop_stage", "6"))
    assert "decode.JOB.log" not in said
    assert sorted(path.name for path in (recipe / DECODED / "logdir").glob("decode.*.log")) == [
        "decode.1.log",
        "decode.2.log",
    ]
    assert table(recipe / DECODED / "text") == text

    said = finish(start(slurm, recipe, "--nj", "3", "--inference_nj", "2", "--stop_stage", "6"))
    assert "started" not in said.replace("2026", "")
    assert slurm.queue() == []


def test_formatted_as_on_this_machine(slurm, recipe, tmp_path):
    """The parts of stage 2, put together, are what one process writes."""
    finish(
        start(
            slurm, recipe, "--nj", "1", "--stage", "2", "--stop_stage", "2", "--dumpdir", str(tmp_path), backend="local"
        )
    )
    for name in ("wav.scp", "text", "utt2spk", "spk2utt", "utt2num_samples", "utt2dur"):
        one, parts = ((folder / "raw/org/train" / name).read_text() for folder in (tmp_path, recipe / "dump"))
        if name == "wav.scp":
            one, parts = (re.sub(r"\S*/(\S+)$", r"\1", text, flags=re.MULTILINE) for text in (one, parts))
        assert one == parts


def test_ctrl_c_on_a_recipe(slurm, recipe):
    """Two trainings are in the queue, of two seeds; none is after Ctrl-C, and bin.status tells what was interrupted."""
    process = start(
        slurm, recipe, "--stage", "4", "--stop_stage", "4", "--seeds", "7 8", "--asr_args", "--max_epoch 1000"
    )
    deadline = time.monotonic() + 120
    while sum(state == "RUNNING" for _, state, _ in slurm.queue()) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    said = subprocess.run(
        [sys.executable, "-m", "espnet2_kd.bin.status", recipe],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    assert (
        len(re.findall(r"train_teacher_seed[78]/.done  running .* train on slurm: 1 jobs, 1 (running|pending)", said))
        == 2
    )
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) != 0
    deadline = time.monotonic() + 60
    while slurm.queue():
        assert time.monotonic() < deadline, slurm.queue()
        time.sleep(0.2)


def test_a_training_is_told_to_save_in_the_midst_of_an_epoch(slurm, recipe):
    """As by Slurm before a time limit or a preemption: it goes on from that batch in another job, to the same weights."""
    options = ("--stage", "4", "--stop_stage", "4", "--seeds", "11")
    options += (
        "--asr_args",
        "--max_epoch 2 --num_iters_per_epoch 60 --batch_bins 300000 --scheduler_conf max_lr=0.0001",
    )
    exp, weights = recipe / "exp/asr_train_teacher_seed11", []
    finish(start(slurm, recipe, *options))
    weights.append(torch.load(exp / "2epoch.pth"))
    shutil.rmtree(exp)
    process = start(slurm, recipe, *options)
    deadline, log = time.monotonic() + 300, exp / "train.log"
    while not log.exists() or "2epoch:train:" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    (task,) = {line[0] for line in slurm.queue()}
    slurm.ask("scancel", "--signal=USR1", "--batch", task)
    assert "interrupted, its state is saved: submitted again" in finish(process)
    assert "with status 85\n" in (exp / "train.log.1").read_text()
    again = log.read_text()
    assert re.search(r"Training goes on after batch [1-9]\d* of epoch 2", again) and "1/2epoch started" not in again
    weights.append(torch.load(exp / "2epoch.pth"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_training_saves_before_its_time_is_up(slurm, tmp_path):
    """Slurm's own notice, a minute at most before the end; the job goes on in another one."""
    tmp_path.chmod(0o755)
    script = "test -e saved && exit 0; trap 'touch saved; kill $!; exit 85' USR1; sleep 300 & wait"
    options = ("--time", "2", "--save-seconds", "60", "--rotate")
    process = drive(slurm, tmp_path, *options, "x.log", "bash", "-c", script)
    assert (process.returncode, process.stderr.splitlines()) == (
        0,
        ["run.py: x.log: interrupted, its state is saved: submitted again"],
    )
    assert "with status 85\n" in (tmp_path / "x.log.1").read_text()


def test_a_task_over_its_time_is_named(slurm, tmp_path):
    tmp_path.chmod(0o755)
    process = drive(slurm, tmp_path, "--time", "1", "x.log", "sleep", "300")
    assert process.stderr.splitlines()[-1] == "  x.log: over its time limit (give it more with --time)"
