"""A tiny copy of the OpenSLR layout, spoken by espeak-ng, to try the recipe out without the recordings."""

from __future__ import annotations

import os
from pathlib import Path

import soundfile

from espnet2_kd.data.espeak import speak
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.scratch import scratch_folder

FS = 16000
VOICES = {"train": ("m1", "m2", "m3", "f1", "f2", "f3"), "test": ("m4", "f4")}
SENTENCES = (
    *("WE CALL IT BEAR", "ZERO THREE FIVE ONE", "MARK IS GOING TO SEE ELEPHANT", "IT'S RAINING IN THE MORNING"),
    *("I LIKE YELLOW APPLES", "SHE READS A BOOK AT SCHOOL", "THE TRAIN LEAVES AT NINE", "DON'T OPEN THE WINDOW"),
    *("MY BROTHER PLAYS FOOTBALL", "WHERE IS THE RED BAG", "THANK YOU FOR THE TEA", "THEY SWIM IN SUMMER"),
)


def make_corpus(directory: Path) -> Path:
    """Write `WAVE/SPEAKER0001/000100001.WAV`... and the tables of both parts, unless they exist; return `directory`."""
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        root = temporary / "corpus"
        number = 0
        for part, variants in VOICES.items():
            tables: dict[str, list[str]] = {name: [] for name in ("wav.scp", "text", "utt2spk", "spk2utt", "spk2age")}
            for variant in variants:
                number += 1
                speaker = f"{number:04d}"
                folder = root / "WAVE" / f"SPEAKER{speaker}"
                folder.mkdir(parents=True)
                utts = [f"{speaker}{index:05d}" for index in range(1, len(SENTENCES) + 1)]
                for utt, sentence in zip(utts, SENTENCES):
                    samples, fs = speak(sentence.lower(), f"en-gb+{variant}", 150)
                    soundfile.write(folder / f"{utt}.WAV", to_pcm16(resample(samples, fs, FS)), FS, format="WAV")
                    tables["wav.scp"].append(f"{utt}\tWAVE/SPEAKER{speaker}/{utt}.WAV")
                    tables["text"].append(f"{utt}\t{sentence}")
                    tables["utt2spk"].append(f"{utt} {speaker}")
                tables["spk2utt"].append(f"{speaker} {' '.join(utts)}")
                tables["spk2age"].append(f"{speaker}\t{9 if number % 2 else 30}")
            (root / part).mkdir()
            for name, lines in tables.items():
                (root / part / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.replace(root, directory)
    return directory
