"""F24: the file of hypotheses is empty."""

from finding import Finding
from hypotheses import TEXT, score
from recipe import Recipe

STAGE = "7 score"


def check(recipe: Recipe) -> Finding:
    return score(recipe, lambda: recipe.write(TEXT, ""), [rf"{TEXT}:0: -: hypothesis file is empty: decode again"])
