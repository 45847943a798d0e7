"""F1: the header of a wav is garbage."""

from finding import Finding, refuse
from recipe import Recipe
from sound import FIRST_PART, FIRST_PART_AND_TABLES, UNFORMATTED, at, replace

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    def inject() -> None:
        replace(recipe, b"RIFFgarbage" * 100)
        recipe.write("downloads/second.wav", b"no sound either")
        recipe.set_line("data/train/wav.scp", 9, f"{recipe.utts[8]} downloads/second.wav")

    says = [at(recipe, "not readable as audio.*: replace the file"), at(recipe, "not readable as audio", 9)]
    says.append(r"2 problem\(s\)")
    finding = refuse(
        recipe,
        inject,
        ["data/train/wav.scp"],
        says,
        leaves=FIRST_PART,
        gone=UNFORMATTED,
        repeats=FIRST_PART_AND_TABLES,
    )
    inject()
    skipped = recipe.run("--stop_stage", "2", "--skip_bad_audio", "2")
    assert skipped.status == 0, skipped.output[-3000:]
    assert len(recipe.lines("dump/raw/org/train/bad_audio.txt")) == 2
    assert len(recipe.lines("dump/raw/train/wav.scp")) == len(recipe.utts) - 2
    return finding
