"""F20: a training is killed while it writes its state."""

import subprocess
import sys

from finding import Finding
from recipe import ROOT, STUDENT, Recipe
from weights import same_weights

STAGE = "5 distill"
# Saves without a pause; a child per trial, so that torch is imported once.
TRIALS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from espnet2_kd.tasks.training_state import STATE, read_state, whole_files

folder, whole = Path(sys.argv[1]), 0
generator = random.Random(0)
for trial in range(15):
    child = os.fork()
    if child == 0:
        number = 0
        with whole_files():
            while True:
                number += 1
                torch.save({"number": number, "a": torch.full((2_000_000,), number)}, folder / STATE)
    while not (folder / STATE).exists():
        time.sleep(0.01)
    time.sleep(generator.uniform(0.02, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    state = read_state(folder / STATE, "cpu")
    whole += bool((state["a"] == state["number"]).all())
print(f"{whole} of 15 whole")
"""


def check(recipe: Recipe) -> Finding:
    killed = recipe.train("exp/killed", KD_FAULT="kill */exp/killed/.checkpoint.pth* 2")
    assert killed.status == -9, killed.output[-3000:]
    again = recipe.train("exp/killed")
    assert again.status == 0, again.output[-3000:]
    message = again.line("Training goes on after epoch 1")
    again.line("2/2epoch started")
    assert "1/2epoch started" not in again.output
    same_weights(recipe.path / "exp/killed", recipe.path / STUDENT)
    left = [path.name for path in (recipe.path / "exp/killed").glob(".*.tmp")]
    assert not left, left
    trials = subprocess.run(
        [sys.executable, "-c", TRIALS, recipe.path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert trials.stdout == "15 of 15 whole\n", trials.stdout + trials.stderr[-3000:]
    rerun = f"{again.seconds:.0f} s: the epoch that it was in; same weights as without"
    return Finding("5 distill", killed.status, message, "nothing; 15 of 15 random kills leave a whole state", rerun)
