"""What `once` of utils/once.sh leaves behind tells how far a recipe is."""

import json
import subprocess
from pathlib import Path

import pytest

from espnet2_kd.bin.status import main
from espnet2_kd.report.recipe_status import steps

ROOT = Path(__file__).resolve().parents[2]


def shell(script, cwd):
    head = f"set -euo pipefail\n. {ROOT}/utils/log.sh\n. {ROOT}/utils/once.sh\n"
    return subprocess.Popen(["bash", "-c", head + script], cwd=cwd, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def recipe(tmp_path):
    assert shell("once data/.done -- true", tmp_path).wait() == 0
    assert shell("once dump/raw/train/.filtered -- false", tmp_path).wait() != 0
    logdir = tmp_path / "dump/raw/train"
    for number, tail in enumerate(
        ["# Ended (code 0) at", "# Ended (code 1; signal 9) at", "# Ended (code 2) at", "busy"]
    ):
        (logdir / f"format.{number + 1}.log").write_text(f"# command\n{tail} now\n")
    return tmp_path


def test_states(recipe, capsys):
    exp = recipe / "exp/asr_train_x_seed1"
    training = shell(f"once {exp}/.done -- bash -c 'echo begun; sleep 60'", recipe)
    try:
        assert training.stdout.readline() == "begun\n"
        (exp / "train.log").write_text(
            "[vm] (trainer:336) INFO: 1/30epoch started\n"
            "[vm] (trainer:394) INFO: 1epoch results: [train] loss=9.0, time=3 seconds, [valid] loss_ctc=2.0, acc=0.5, loss=4.25, "
            "loss_kd_a=1.0, time=1 second, total_count=2\n"
            "[vm] (trainer:324) INFO: 2/30epoch started. Estimated time to finish: 4 minutes and 2.5 seconds\n"
            "half a line"
        )
        found = {step.where: (step.state, step.detail) for step in steps(recipe)}
        assert found == {
            "data/.done": ("done", ""),
            "dump/raw/train/.filtered": ("interrupted", "format: 4 jobs, 1 done, 1 unfinished, 2 failed"),
            "exp/asr_train_x_seed1/.done": (
                "running",
                "epoch 2 of 30, 4 minutes and 2.5 seconds to go; valid after epoch 1: acc 0.5 loss 4.25",
            ),
        }
        assert main([str(recipe)]) == 0
        out = capsys.readouterr().out
        assert "data/.done" not in out and "1 of 3 steps that were begun are done" in out
        assert main([str(recipe), "--all"]) == 0
        assert capsys.readouterr().out.startswith("data/.done")
    finally:
        subprocess.run(["pkill", "-P", str(training.pid)], check=False)
        training.kill()
        training.wait()


def test_jobs_of_a_cluster(recipe):
    """States are those that the driver has written down, not what logs from before the array was submitted again look like."""
    states = {
        "1": ["done", ""],
        "2": ["pending", "Resources"],
        "3": ["failed", "out of memory"],
        "4": ["running", "on n1"],
    }
    states |= {str(n): ["failed", "exit code 1"] for n in range(5, 9)}
    for name, text in (("format", json.dumps({"backend": "slurm", "states": states})), ("broken", "{")):
        folder = recipe / "dump/raw/train/q" / name
        folder.mkdir(parents=True)
        (folder / "states.json").write_text(text)
    found = {step.where: step.detail for step in steps(recipe)}
    assert found["dump/raw/train/.filtered"] == (
        "format on slurm: 8 jobs, 5 failed (3: out of memory; 5: exit code 1; 6: exit code 1; and 2 more), 1 done, "
        "1 pending (Resources), 1 running"
    )


def test_looking_disturbs_nobody(recipe):
    """A step may begin while somebody looks, and looking changes no file."""
    before = {path: path.stat().st_mtime_ns for path in recipe.rglob("*")}
    steps(recipe)
    assert {path: path.stat().st_mtime_ns for path in recipe.rglob("*")} == before


def test_nothing_there(tmp_path, capsys):
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "0 of 0 steps that were begun are done\n"
    assert main([str(tmp_path / "no")]) == 1
    assert "no such directory" in capsys.readouterr().err
