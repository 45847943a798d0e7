"""F19: an entry of wav.scp is a command."""

from finding import Finding, refuse
from recipe import Recipe
from sound import LINE, at

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    utt, entry = recipe.lines("data/train/wav.scp")[LINE - 1].split()
    command = f"{utt} touch executed; cat {entry} |"
    finding = refuse(
        recipe,
        lambda: recipe.set_line("data/train/wav.scp", LINE, command),
        ["data/train/wav.scp"],
        [at(recipe, r"is a command, not a file: touch executed.*--allow_pipes true")],
    )
    recipe.set_line("data/train/wav.scp", LINE, command)
    # Not by the programs that meet the table without stage 1, either.
    for run in (
        recipe.module("format_audio", "data/train", "dump/other"),
        recipe.module(
            "decode", "--exp", "exp/asr_student_seed1", "--data_dir", "data/train", "--output_dir", "exp/other"
        ),
    ):
        assert run.status == 1 and "is a command, not a file" in run.output, run.output[-2000:]
    assert not (recipe.path / "executed").exists()
    allowed = recipe.run("--stop_stage", "2", "--allow_pipes", "true")
    assert allowed.status == 0, allowed.output[-3000:]
    assert (recipe.path / "executed").exists()
    allowed.line(r"running the command of wav.scp: touch executed")
    return finding
