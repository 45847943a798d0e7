"""What `once` of utils/once.sh leaves behind tells how far a recipe is."""

import json
import os
import platform
import re
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from espnet2_kd.bin.status import main
from espnet2_kd.jobs.record import Record, write
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
        ["# Ended (code 0) at", "# Ended (code 1; signal 9) at", "no such file x\n# Ended (code 2) at", "busy"]
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
            "dump/raw/train/.filtered": (
                "failed",
                "format: 4 jobs, 1 done, 1 unfinished, 2 failed: killed by SIGKILL (out of memory?), see "
                "dump/raw/train/format.2.log; exit code 2: no such file x, see dump/raw/train/format.3.log",
            ),
            "exp/asr_train_x_seed1/.done": (
                "running",
                "epoch 2 of 30, 4 minutes and 2.5 seconds to go; valid after epoch 1: acc 0.5 loss 4.25; "
                f"log: exp/asr_train_x_seed1/train.log; on {platform.node()}, process {training.pid}",
            ),
        }
        assert main([str(recipe)]) == 0
        out = capsys.readouterr().out
        assert "data/.done" not in out and "1 of 3 steps that were begun are done" in out
        assert main([str(recipe), "--all"]) == 0
        assert "\ndata/.done" in capsys.readouterr().out
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
    node = Record("running", host="n1", task="17_4", began=datetime(2026, 3, 4, 5, 6).timestamp())
    write(recipe / "dump/raw/train/q/format/4.json", node)
    (step,) = (step for step in steps(recipe) if step.stage is None and step.where.startswith("dump"))
    assert step.detail.endswith("1 pending (Resources), 1 running (4: n1, job 17_4, since 03-04 05:06)")
    assert step.state == "failed"


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


SCRIPT = """
dry_run=false expdir=exp skip_stages="" stage=1 stop_stage=9 nj=1 inference_nj=1 ngpu=0 num_threads=1 train_cmd=run.py cuda_cmd=run.py
KD_ROOT={root} closing=""
. {root}/utils/log.sh
. {root}/utils/once.sh
. {root}/egs2/TEMPLATE/kd1/run_stages.sh
python3() {{ :; }}  # neither a warden nor a look at the environment
STAGES=("" data feats train pack)
stage_1_data() {{ once data/.done -- true; }}
stage_2_feats() {{ once dump/.a -- true; once dump/.b -- {feats}; }}
stage_3_train() {{ echo begun; once exp/x/.done -- bash -c 'sleep 60'; }}
stage_4_pack() {{ once exp/x/.packed -- true; }}
main() {{ run_stages; }}
main; exit
"""


def run_recipe(recipe, feats="true"):
    script = "set -euo pipefail\n" + SCRIPT.format(root=ROOT, feats=feats)
    return subprocess.Popen(
        ["bash", "-c", script], cwd=recipe, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def table_of(recipe, capsys):
    assert main([str(recipe)]) == 0
    head, *_ = capsys.readouterr().out.split("\n\n")
    # Without the column of times, and how long it took on a busy machine.
    head = re.sub(r"took \d+ s", "took N s", head)
    return [re.sub(r" +\d{4}-\d\d-\d\d \d\d:\d\d", "", line).split(maxsplit=3) for line in head.splitlines()[1:]]


def test_stages(tmp_path, capsys):
    """Begun or not, running where, failed, or killed."""
    failing = run_recipe(tmp_path, "bash -c 'exit 3'")
    assert failing.wait() == 3
    assert table_of(tmp_path, capsys) == [
        ["1", "data", "done", "took N s"],
        ["2", "feats", "failed", "1 step to be done again"],
        ["3", "train", "not", "begun"],
        ["4", "pack", "not", "begun"],
    ]
    process = run_recipe(tmp_path)
    try:
        assert any(line == "begun\n" for line in process.stdout)
        deadline = time.monotonic() + 60
        while not (tmp_path / "exp/x/.done.started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running = ["3", "train", "running", f"on {platform.node()}, process {process.pid}"]
        shown = table_of(tmp_path, capsys)
        assert [row[2] for row in shown[:2]] == ["done", "done"] and shown[2] == running
        found = {step.where: step.stage for step in steps(tmp_path)}
        assert found == {"data/.done": 1, "dump/.a": 2, "dump/.b": 2, "exp/x/.done": 3}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # The command that it ran holds its locks until it is gone too.
    while (shown := table_of(tmp_path, capsys)[2])[2] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert shown == ["3", "train", "interrupted", "1 step to be done again"]


def test_what_a_stage_came_to_its_end_without(tmp_path, capsys):
    """A step of a stage that failed, and is not part of it since the options were changed."""
    assert run_recipe(tmp_path, "bash -c 'exit 3'").wait() == 3
    assert main([str(tmp_path)]) == 0
    assert "dump/.b" in capsys.readouterr().out
    lock = tmp_path / "dump/.b.lock"
    (lock.parent / ".c.lock").write_text(lock.read_text())
    for name in (".b.lock", ".b.started"):
        if (path := tmp_path / "dump" / name).exists():
            os.utime(path, (1e9, 1e9))
    stage = tmp_path / "exp/.stages/2.stage"
    stage.write_text(f"{int(time.time()) - 60} begun host 1\n{int(time.time()) - 50} done 10\n")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "dump/.b" not in out and "1 left by earlier runs (--all shows them)" in out
    assert "dump/.c" in out, "begun after the stage had come to its end"
    assert main([str(tmp_path), "--all"]) == 0
    assert "dump/.b" in capsys.readouterr().out
