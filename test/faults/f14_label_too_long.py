"""F14: a label is longer than what the encoder gives frames for."""

from dropped import FILTERED
from finding import Finding, cost
from recipe import Recipe, inside
from sound import LINE

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    utt = recipe.utts[LINE - 1]
    kept = (recipe.path / "data/train/text").read_bytes()
    recipe.set_line("data/train/text", LINE, f"{utt} {' '.join(['lights'] * 200)}")
    run = recipe.run("--stop_stage", "2")
    assert run.status == 0, run.output[-3000:]
    message = run.line(rf"^dump/raw/train/text:{LINE}: {utt}: labels need \d+ frames, the encoder gives \d+: dropped")
    for name in ("wav.scp", "text", "utt2spk"):
        assert utt not in (recipe.path / f"dump/raw/train/{name}").read_text()
    recipe.write("data/train/text", kept)
    before = recipe.files()
    again = recipe.run("--stop_stage", "2")
    made = recipe.changed(before)
    assert again.status == 0 and inside(made, "dump/raw/org/train/*", *FILTERED), made
    assert not inside([name for name in made if name.endswith(".flac")] or ["-"], "*.flac"), "audio was formatted again"
    assert utt in (recipe.path / "dump/raw/train/text").read_text()
    return Finding("2 feats", 0, message, "nothing of it", cost(again, made))
