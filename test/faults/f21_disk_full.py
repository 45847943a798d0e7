"""F21: the disk is full when a training writes its state."""

import torch
from finding import Finding
from recipe import STUDENT, Recipe
from weights import same_weights

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    full = recipe.train("exp/full", KD_FAULT="full */exp/full/.checkpoint.pth* 2")
    assert full.status > 0, full.output[-3000:]
    message = full.line("exp/full/checkpoint.pth: disk full: need .*the same command goes on")
    exp = recipe.path / "exp/full"
    before = (exp / "checkpoint.pth").read_bytes()
    assert torch.load(exp / "1epoch.pth", weights_only=True)
    left = sorted(path.name for path in exp.glob(".*.tmp"))
    assert not left, left
    again = recipe.train("exp/full")
    assert again.status == 0, again.output[-3000:]
    again.line("Training goes on after epoch 1")
    same_weights(exp, recipe.path / STUDENT)
    assert (exp / "checkpoint.previous.pth").read_bytes() == before
    return Finding(
        "5 distill", full.status, message, "the state of epoch 1, whole", f"{again.seconds:.0f} s: the second epoch"
    )
