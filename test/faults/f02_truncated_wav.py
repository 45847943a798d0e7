"""F2: a wav is cut to half."""

from finding import Finding, refuse
from recipe import Recipe
from sound import FIRST_PART, FIRST_PART_AND_TABLES, UNFORMATTED, at, replace, sound

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    content = sound()
    return refuse(
        recipe,
        lambda: replace(recipe, content[: len(content) // 2]),
        ["data/train/wav.scp"],
        [
            at(
                recipe,
                "truncated: header promises 32000 bytes of audio, 15978 are there.*: copy or record the file again",
            )
        ],
        leaves=FIRST_PART,
        gone=UNFORMATTED,
        repeats=FIRST_PART_AND_TABLES,
    )
