"""A few sentences of our own in the published layout, to try the recipe out without the texts."""

from __future__ import annotations

import os
from pathlib import Path

from espnet2_kd.data.scratch import scratch_folder

INTENTS = {
    ("iot", "lamp_on"): (("turn on", "switch on", "light"), ("hall lamp", "desk lamp", "porch lamp", "bedside lamp")),
    ("iot", "lamp_off"): (("turn off", "switch off", "kill"), ("hall lamp", "desk lamp", "porch lamp", "bedside lamp")),
    ("music", "start"): (("play", "start", "put on"), ("jazz", "rock", "opera", "that song")),
    ("news", "ask"): (("read me", "give me", "find"), ("sports news", "city news", "world news", "science news")),
    ("list", "add"): (("add", "put down", "write down"), ("milk", "bread", "apples", "soap")),
    ("taxi", "order"): (("call", "book", "order"), ("taxi home", "cab to work", "taxi to town", "cab at noon")),
}
HEADER = "answerid;scenario;intent;answer_annotation;answer_from_anno;answer_from_user\n"


def make_texts(folder: Path) -> Path:
    """Write `trainset/*.csv` and `testset/csv/*.csv` unless they exist; every fourth sentence is a test sentence."""
    if folder.exists():
        return folder
    with scratch_folder(folder) as temporary:
        root = temporary / "texts"
        for part in ("trainset", "testset/csv"):
            (root / part).mkdir(parents=True)
        for (scenario, intent), (verbs, things) in INTENTS.items():
            sentences = [f"{polite}{verb} {thing}" for polite in ("", "please ") for verb in verbs for thing in things]
            for part, mine in (("trainset", lambda i: i % 4), ("testset/csv", lambda i: i % 4 == 0)):
                lines = [
                    f'{number};{scenario};{intent};"{text}";"{text}";"{text}"\n'
                    for number, text in enumerate(sentences)
                    if mine(number)
                ]
                path = root / part / f"{scenario}_{intent}.csv"
                path.write_text(HEADER + "".join(lines), encoding="utf-8")
        os.replace(root, folder)
    return folder
