"""Tiny copies of the layouts of LibriSpeech and Libri-Light, spoken by espeak-ng, to try the recipe out without the recordings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import soundfile

from espnet2_kd.data.espeak import speak
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.scratch import scratch_folder

FS = 16000
# One voice per reader; readers of different parts differ.
READERS = {
    "train-clean-100": {"19": "m1", "26": "f1", "27": "m2"},
    "train-clean-360": {"14": "f2", "16": "m3"},
    "train-other-500": {"20": "m5", "25": "f5"},
    "dev-clean": {"1272": "f3"},
    "dev-other": {"116": "m6"},
    "test-clean": {"1089": "m4"},
    "test-other": {"367": "f4"},
}
SENTENCES = (
    *("HE HOPED THERE WOULD BE STEW FOR DINNER", "THE OLD HOUSE STOOD NEAR THE RIVER", "STUFF IT INTO YOU"),
    *("SHE CLOSED THE BOOK AND WENT TO THE WINDOW", "IT WAS A COLD AND QUIET MORNING", "NOBODY KNEW HIS NAME"),
    *("THE HORSES WERE TIRED AFTER THE LONG ROAD", "DON'T LEAVE BEFORE THE RAIN IS OVER", "HE READ EVERY LETTER TWICE"),
    *("A SMALL BOAT CAME ROUND THE POINT", "THEY WAITED FOR NEWS FROM THE CITY", "THE GARDEN WAS FULL OF ROSES"),
)


def make_corpus(directory: Path) -> Path:
    """Write `LibriSpeech/<part>/<reader>/<chapter>/...` of every part, unless it exists; return `directory`."""
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        root = temporary / "corpus"
        for part, readers in READERS.items():
            for number, (reader, variant) in enumerate(readers.items()):
                chapter = f"{198 + number}"
                folder = root / "LibriSpeech" / part / reader / chapter
                folder.mkdir(parents=True)
                lines = []
                for index, sentence in enumerate(SENTENCES):
                    utt = f"{reader}-{chapter}-{index:04d}"
                    samples, fs = speak(sentence.lower(), f"en-us+{variant}", 150)
                    soundfile.write(folder / f"{utt}.flac", to_pcm16(resample(samples, fs, FS)), FS, format="FLAC")
                    lines.append(f"{utt} {sentence}\n")
                (folder / f"{reader}-{chapter}.trans.txt").write_text("".join(lines), encoding="utf-8")
        os.replace(root, directory)
    return directory


def make_unlabelled(directory: Path) -> Path:
    """Write `small/<speaker>/<book>/<file>.flac` and `.json` of Libri-Light, unless it exists; return `directory`."""
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        root = temporary / "corpus"
        for speaker, variant in {"100": "m7", "1001": "whisper"}.items():
            folder = root / "small" / speaker / "some_book_0808_librivox_64kb_mp3"
            folder.mkdir(parents=True)
            sound, speech = np.zeros(0), []
            for sentence in SENTENCES[6:]:
                samples, fs = speak(sentence.lower(), f"en-us+{variant}", 150)
                samples = resample(samples, fs, FS)
                speech.append((round(len(sound) / FS, 3), round((len(sound) + len(samples)) / FS, 3)))
                sound = np.concatenate((sound, samples, np.zeros(FS // 2)))
            soundfile.write(folder / "some_book_01_64kb.flac", to_pcm16(sound), FS, format="FLAC")
            content = {"speaker": speaker, "book_meta": {"id": "1"}, "snr": 20.0, "voice_activity": speech}
            (folder / "some_book_01_64kb.json").write_text(json.dumps(content), encoding="utf-8")
        os.replace(root, directory)
    return directory
