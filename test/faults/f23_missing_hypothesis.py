"""F23: a hypothesis is missing."""

from finding import Finding
from hypotheses import TEXT, score
from recipe import Recipe

STAGE = "7 score"


def check(recipe: Recipe) -> Finding:
    lines = recipe.lines(TEXT)
    utt = lines[4].split()[0]
    return score(
        recipe,
        lambda: recipe.write(TEXT, "".join(f"{line}\n" for line in lines[:4] + lines[5:])),
        [rf"{TEXT}:0: {utt}: hypothesis is missing: decode it again \(its reference is dump/raw/test/text:5\)"],
    )
