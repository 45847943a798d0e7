"""S6: an old file of weights that is a program, read on request."""

import torch
from finding import Finding
from program import program, refused
from recipe import Recipe

from espnet2_kd.data.download import file_sha256

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    old = recipe.path / "old.pth"
    torch.save({"encoder.x": program(recipe)}, old)
    options = ("--init_param", "old.pth", "--trust_init_param")
    refused(recipe, recipe.train("exp/other", *options, "false"), "--init_param old.pth: holds more than weights")
    trusted = recipe.train("exp/trusted", *options, "true", "--ignore_init_mismatch", "true")
    message = trusted.line(f"old.pth .*{file_sha256(old)}.*is executed")
    assert (recipe.path / "executed").exists()
    return Finding("5 distill", 1, message, "nothing without the flag", "not needed")
