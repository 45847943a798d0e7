"""F8: the file of an utterance is missing."""

from finding import Finding, refuse
from recipe import Recipe
from sound import LINE, at

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    return refuse(
        recipe,
        lambda: recipe.set_line("data/train/wav.scp", LINE, f"{recipe.utts[LINE - 1]} downloads/nowhere.wav"),
        ["data/train/wav.scp"],
        [at(recipe, "file not found: downloads/nowhere.wav: correct the path")],
        leaves=["data/train/wav.scp"],
        repeats=["data/train/*"],
    )
