"""F26: transcripts hold what sclite interprets, and words that differ by case."""

import json

from finding import Finding, cost
from recipe import DECODED, Recipe, inside

STAGE = "7 score"
REFERENCE = ["( lights )", "{ on / off }", "@", "Äpfel", "lights on please"]
HYPOTHESIS = ["", "on", "@", "äpfel", "lights off please"]
# Counted by hand: `(`, `lights` and `)` deleted; of `{ on / off }` four of five deleted; one word substituted.
ERRORS = {"corr": 1 + 1 + 1 + 2, "sub": 1, "dele": 3 + 4, "ins": 0}


def check(recipe: Recipe) -> Finding:
    utts = [line.split()[0] for line in recipe.lines("dump/raw/test/text")][: len(REFERENCE)]
    for name, texts in (("ref", REFERENCE), ("hyp", HYPOTHESIS)):
        recipe.write(f"exp/{name}", "".join(f"{utt} {text}\n" for utt, text in zip(utts, texts)))
    options = (
        "--ref",
        "exp/ref",
        "--utt2spk",
        "dump/raw/test/utt2spk",
        "--hyp",
        "exp/hyp",
        "--output_dir",
        "exp/scored",
    )
    run = recipe.module("score", *options)
    assert run.status == 0, run.output
    message = run.line("utterances hold characters that sclite interprets; written as %XX")
    run.line("1 of 5 utterances hold words that differ in case only; counted as correct")
    counts = json.loads((recipe.path / "exp/scored/score.json").read_text())["wer"]["counts"]
    assert [counts[key] for key in ("corr", "sub", "del", "ins")] == list(ERRORS.values()), counts
    strict = recipe.module("score", *options, "--case_sensitive", "true")
    counts = json.loads((recipe.path / "exp/scored/score.json").read_text())["wer"]["counts"]
    assert strict.status == 0 and counts["sub"] == 2, counts
    before = recipe.files()
    again = recipe.run("--stage", "7", "--stop_stage", "7")
    made = recipe.changed(before)
    assert again.status == 0 and inside(made, f"{DECODED}/*") and not made, made
    return Finding("7 score", run.status, message, "scores as counted by hand", cost(again, made))
