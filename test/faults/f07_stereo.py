"""F7: a stereo file in a mono set."""

from finding import Finding, refuse
from recipe import Recipe
from sound import FIRST_PART, FIRST_PART_AND_TABLES, UNFORMATTED, at, replace, sound

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    finding = refuse(
        recipe,
        lambda: replace(recipe, sound(2.0, channels=2)),
        ["data/train/wav.scp"],
        [at(recipe, r"2 channels: choose one with --ref_channel 0 \(to 1\), or --ref_channel mix")],
        leaves=FIRST_PART,
        gone=UNFORMATTED,
        repeats=FIRST_PART_AND_TABLES,
    )
    replace(recipe, sound(2.0, channels=2))
    mixed = recipe.run("--stop_stage", "2", "--ref_channel", "mix")
    assert mixed.status == 0, mixed.output[-3000:]
    return finding
