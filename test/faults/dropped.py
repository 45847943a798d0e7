"""Faults for which an utterance is left out, and said to be."""

from __future__ import annotations

import re
from collections.abc import Callable

from finding import Finding, cost
from recipe import Recipe, inside
from sound import FIRST_PART_AND_TABLES, LINE

# Tokens are made of the words that are left.
FILTERED = ("dump/raw/train/*", "data/token_list/*", "dump/raw/valid/.labels_checked")


def drop(recipe: Recipe, inject: Callable[[], object], reason: str, remedy: str) -> Finding:
    """The run goes on without the fifth training utterance, and names it, the reason and the remedy in one line."""
    utt = recipe.utts[LINE - 1]
    kept = (recipe.path / "data/train/wav.scp").read_bytes()
    inject()
    run = recipe.run("--stop_stage", "2")
    assert run.status == 0, run.output[-3000:]
    message = run.line(rf"dump/raw/train: 1 {reason}: {utt}.*{remedy}")
    assert utt not in (recipe.path / "dump/raw/train/wav.scp").read_text()
    assert f"{utt}\t{reason}" in recipe.lines("dump/raw/train/dropped.tsv")
    recipe.write("data/train/wav.scp", kept)
    before = recipe.files()
    again = recipe.run("--stop_stage", "2")
    assert again.status == 0, again.output[-3000:]
    made = recipe.changed(before)
    assert inside(made, *FIRST_PART_AND_TABLES, *FILTERED), made
    assert re.search(rf"^{utt} ", (recipe.path / "dump/raw/train/wav.scp").read_text(), re.MULTILINE)
    return Finding("2 feats", 0, message, "dropped.tsv", cost(again, made))
