"""F33: Ctrl-C while two students are trained."""

import os
import shutil
import signal
import time
from pathlib import Path

from finding import Finding
from recipe import OPTIONS, STUDENT, Recipe, wait_for

STAGE = "5 distill"


def processes(folder: Path) -> list[int]:
    """Those that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = Path(os.readlink(entry / "cwd"))
        except OSError:  # it has ended, or is another user's
            continue
        if here == folder:
            found.append(int(entry.name))
    return found


def check(recipe: Recipe) -> Finding:
    shutil.rmtree(recipe.path / STUDENT)
    options = ("--stage", "5", "--stop_stage", "5", "--seeds", "1 2", "--teacher_seed", "1")
    options += ("--asr_args", "--num_iters_per_epoch 20 --scheduler_conf total_steps=40")
    began = time.monotonic()
    process = recipe.start("bash", "run.sh", *OPTIONS, *options)
    logs = [recipe.path / f"exp/asr_student_seed{seed}/train.log" for seed in (1, 2)]
    wait_for(
        lambda: any(log.exists() and "1/2epoch started" in log.read_text(errors="replace") for log in logs), process
    )
    assert processes(recipe.path)
    os.killpg(process.pid, signal.SIGINT)
    stopped = recipe.finish(process, began)
    assert stopped.status != 0
    deadline = time.monotonic() + 20
    while (left := processes(recipe.path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"still running: {left}"
    assert not (recipe.path / STUDENT / ".done").exists()
    for exp in (recipe.path / "exp").glob("asr_student_seed*"):
        assert not list(exp.glob("*.ave*.pth"))
    again = recipe.run(*options)
    assert again.status == 0, again.output[-3000:]
    return Finding(
        "5 distill", stopped.status, "Ctrl-C: 0 processes left", "a log", f"{again.seconds:.0f} s: the students"
    )
