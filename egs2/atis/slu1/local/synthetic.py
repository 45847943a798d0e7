"""A tiny copy of ATIS, recordings as on LDC's discs and lists of texts, spoken by espeak-ng, to try the recipe out."""

from __future__ import annotations

import os
from pathlib import Path

import soundfile
from texts import LISTS, UNMATCHED

from espnet2_kd.data.espeak import speak
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.scratch import scratch_folder

FS = 16000
# Folder of a speaker, from the discs of ATIS-2 (training data) and of both test sets of ATIS-3: voice.
SPEAKERS = {
    "train": {
        "atis2/12_2_1/atis2/spon/train/mit/4e0": "us+m1",
        "atis2/12_3_1/atis2/spon/train/sri/rx0": "us+f1",
        "atis3/17_2.1/atis3/sp_trn/cmu/9a2": "gb+m3",
    },
    "valid": {"atis3/17_3.1/atis3/sp_trn/nist/x1a": "us+f2", "atis2/12_4_1/atis2/spon/train/att/z1p": "gb+m6"},
    "test": {
        "atis3_test/17_5.1/cdrom/atis3/sp_tst/dec94/initial/8ln": "us+m4",
        "atis3/17_3.1/atis3/sp_tst/nov93/x20": "gb+f4",
    },
}
SENTENCES = (
    ("flights from new york to rome on friday", "atis_flight"),
    ("i'd like to fly to dallas before 9 am", "atis_flight"),
    ("show me every plane that leaves paris at night", "atis_flight"),
    ("what does a ticket to miami cost", "atis_airfare"),
    ("which is the cheapest fare to st. paul", "atis_airfare"),
    ("how do i get from the airport into town", "atis_ground_service"),
    ("is there a bus at the denver airport", "atis_ground_service"),
    ("what's the meaning of code hp", "atis_abbreviation"),
    ("which airlines fly to toronto", "atis_airline"),
    ("what kind of aircraft is that", "atis_aircraft"),
    ("flights to boston and what they cost", "atis_flight#atis_airfare"),
)


def make_corpus(directory: Path) -> Path:
    """Write `audio/` and `texts/`, unless they exist; return `directory`.

    As in the corpus, one sentence has two intents, and the training list ends with one that has no recording.
    """
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        root = temporary / "corpus"
        (root / "texts").mkdir(parents=True)
        for name, speakers in SPEAKERS.items():
            lines = []
            for folder, voice in speakers.items():
                for number, (text, intents) in enumerate(SENTENCES, 1):
                    path = f"{folder}/1/{folder[-3:]}{number:02d}1ss.wav"
                    (root / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
                    samples, fs = speak(text, f"en-{voice}", 160)
                    samples = to_pcm16(resample(samples, fs, FS))
                    soundfile.write(root / "audio" / path, samples, FS, format="NIST", subtype="PCM_16")
                    lines.append(line(text, intents, path))
            if name == "train":
                lines.append(line("is there a flight to nowhere", "atis_flight", UNMATCHED))
            (root / "texts" / LISTS[name].name).write_text("".join(lines), encoding="utf-8")
        os.replace(root, directory)
    return directory


def line(text: str, intents: str, path: str) -> str:
    """Return a line of a list; no word fills a slot."""
    return "\t".join([f"BOS {text} EOS", "O " * (len(text.split()) + 1), intents, path]) + "\n"
