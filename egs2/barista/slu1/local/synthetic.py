"""A tiny coffee bar in the layout of the TSV pack, spoken by espeak-ng, to try the recipe out without the recordings."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from orders import SLOTS, Grammar, label_of

from espnet2_kd.data.spoken import SpokenUtterance, keyed_rng, speak_corpus
from espnet2_kd.data.table import replacing

SEED = 1
SIZES = {"train": ("train", 40), "dev": ("valid", 8), "test": ("test", 8)}
NUM_SENTENCES = 30
COLUMNS = ("utt_id", "speaker", "split", *SLOTS, "path")
GRAMMAR = """context:
  expressions:
    order:
      - "[please, i need, now] [a, an] $size:size $coffeeDrink:coffeeDrink"
      - "[please, i need, now] [a, an] $coffeeDrink:coffeeDrink plus $milkAmount:milkAmount"
      - "[please, i need, now] [a, an] $roast:roast $coffeeDrink:coffeeDrink plus $sugarAmount:sugarAmount"
      - "[please, i need, now] [a, an] $numberOfShots:numberOfShots $coffeeDrink:coffeeDrink"
  slots:
    size: [tiny, huge]
    roast: [dark roast, light roast]
    numberOfShots: [single shot, double shot]
    coffeeDrink: [espresso, filter coffee, mocha]
    milkAmount: [milk, some oat milk]
    sugarAmount: [sugar, a bit of honey]
"""


def make_corpus(folder: Path) -> Path:
    """Write audio, lists and grammar of the pack; what is there is not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "grammar_coffee_maker.yaml") as stream:
        stream.write(GRAMMAR)
    grammar = Grammar.read(folder / "grammar_coffee_maker.yaml")
    utterances, labels = [], {}
    for split, (voices, size) in SIZES.items():
        rng = keyed_rng(SEED, split)
        for number in range(size):
            sentence, phrases = grammar.draw(rng)
            utterance = SpokenUtterance.draw(number, voices, sentence, "", rng, SEED)
            labels[utterance.utt_id] = {**label_of(phrases), "split": split}
            utterances.append(utterance)
    speak_corpus(folder, utterances, {}, SEED, os.cpu_count() or 1)
    for split in SIZES:
        rows = [
            {"utt_id": u.utt_id, "speaker": u.speaker, "path": u.path, **labels[u.utt_id]}
            for u in utterances
            if labels[u.utt_id]["split"] == split
        ]
        _write(folder / f"{split}.tsv", COLUMNS, rows)
    drawn = [grammar.draw(keyed_rng(SEED, f"sentence:{number}")) for number in range(NUM_SENTENCES)]
    sentences = {sentence: label_of(phrases) for sentence, phrases in drawn}
    rows = [{"id": f"text_{n}", "text": text, **label} for n, (text, label) in enumerate(sentences.items())]
    _write(folder / "text_only.tsv", ("id", "text", *SLOTS), rows)
    return folder


def _write(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    with replacing(path) as stream:
        writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
