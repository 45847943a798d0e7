"""F37: what is given as weights is a program."""

import torch
from finding import Finding
from program import program, refused
from recipe import MODEL, STUDENT, Recipe

STAGE = "6 decode"


def check(recipe: Recipe) -> Finding:
    weights = {"encoder.x": program(recipe)}
    torch.save(weights, recipe.path / "program.pth")
    begun = recipe.train("exp/other", "--init_param", "program.pth")
    message = refused(
        recipe, begun, "--init_param program.pth: holds more than weights, or is damaged.*--trust_init_param"
    )
    assert not (recipe.path / "exp/other/checkpoint.pth").exists()
    # As a training state, as the weights of an epoch that is averaged, and as a model to decode with.
    torch.save(weights, recipe.write("exp/resumed/checkpoint.pth", b""))
    refused(recipe, recipe.train("exp/resumed"), "exp/resumed/checkpoint.pth: .*neither can be read as the state")
    torch.save(weights, recipe.path / STUDENT / MODEL)
    decode = ("--exp", STUDENT, "--data_dir", "dump/raw/test", "--output_dir", "exp/decoded", "--force")
    refused(recipe, recipe.module("decode", *decode), "is damaged or holds more than weights")
    assert not (recipe.path / "exp/decoded/text").exists()
    begun = recipe.train("exp/averaged", "--max_epoch", "1")
    assert begun.status == 0, begun.output[-3000:]
    torch.save(weights, recipe.path / "exp/averaged/1epoch.pth")
    refused(recipe, recipe.train("exp/averaged"), "exp/averaged/1epoch.pth: holds more than weights")
    again = recipe.train("exp/other")
    assert again.status == 0, again.output[-3000:]
    return Finding(
        "5 distill", begun.status, message, "nothing was executed or written", f"{again.seconds:.0f} s: this training"
    )
