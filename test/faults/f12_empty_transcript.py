"""F12: a transcript is empty."""

from finding import Finding, refuse
from recipe import Recipe
from sound import LINE, at

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    return refuse(
        recipe,
        lambda: recipe.set_line("data/train/text", LINE, recipe.utts[LINE - 1]),
        ["data/train/text"],
        [at(recipe, "empty transcript: write its words, or drop it: .*filter", table="text")],
    )
