"""F3: a flac is cut to half."""

from finding import Finding, refuse
from recipe import Recipe
from sound import FIRST_PART, FIRST_PART_AND_TABLES, UNFORMATTED, at, replace, sound

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    content = sound(container="FLAC")
    return refuse(
        recipe,
        lambda: replace(recipe, content[: len(content) // 2], "flac"),
        ["data/train/wav.scp"],
        [at(recipe, "truncated.*fault.flac: .*(replace|copy)")],
        leaves=FIRST_PART,
        gone=UNFORMATTED,
        repeats=FIRST_PART_AND_TABLES,
    )
