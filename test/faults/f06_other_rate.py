"""F6: an 8 kHz file in a 16 kHz set, and a set all of 8 kHz."""

import re

import soundfile
from dropped import FILTERED
from finding import Finding, cost
from recipe import Recipe, inside
from sound import FIRST_PART_AND_TABLES, replace, sound

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    kept = (recipe.path / "data/train/wav.scp").read_bytes()
    utt = replace(recipe, sound(2.0, rate=8000))
    run = recipe.run("--stop_stage", "2")
    assert run.status == 0, run.output[-3000:]
    message = run.line(rf"dump/raw/org/train: 1 utterances \({utt}\) resampled from 8000 to 16000 Hz.*--fs")
    (formatted,) = (recipe.path / "dump/raw/org/train").glob(f"data/*/{utt}.flac")
    info = soundfile.info(formatted)
    assert (info.samplerate, info.frames) == (16000, 32000)
    recipe.write("data/train/wav.scp", kept)
    before = recipe.files()
    again = recipe.run("--stop_stage", "2")
    made = recipe.changed(before)
    assert again.status == 0 and inside(made, *FIRST_PART_AND_TABLES, *FILTERED), made

    for line, entry in enumerate(recipe.lines("data/valid/wav.scp"), 1):
        utt = entry.split()[0]
        recipe.write(f"downloads/{utt}.wav", sound(2.0, rate=8000))
        recipe.set_line("data/valid/wav.scp", line, f"{utt} downloads/{utt}.wav")
    all_of_it = recipe.run("--stop_stage", "2")
    num = len(recipe.lines("data/valid/wav.scp"))
    assert re.search(rf"dump/raw/org/valid: {num} utterances \(.*\) resampled from 8000", all_of_it.output)
    return Finding("2 feats", 0, message, "the set at 16 kHz", cost(again, made))
