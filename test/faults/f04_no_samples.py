"""F4: a wav has no samples."""

from finding import Finding, refuse
from recipe import Recipe
from sound import FIRST_PART, FIRST_PART_AND_TABLES, UNFORMATTED, at, replace, sound

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    return refuse(
        recipe,
        lambda: replace(recipe, sound(0)),
        ["data/train/wav.scp"],
        [at(recipe, "no samples: record it again, or drop the utterance")],
        leaves=FIRST_PART,
        gone=UNFORMATTED,
        repeats=FIRST_PART_AND_TABLES,
    )
