"""A tiny copy of the public layout, spoken by espeak-ng, to try the recipe out without the recordings."""

from __future__ import annotations

import os
from pathlib import Path

import soundfile
from strings import SPEAKERS, WORDS

from espnet2_kd.data.espeak import speak
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.scratch import scratch_folder

FS = 8000
NUM_TAKES = 3
VOICES = dict(
    zip([speaker for speakers in SPEAKERS.values() for speaker in speakers], ("m1", "m2", "m3", "f1", "f2", "f3"))
)


def make_corpus(directory: Path) -> Path:
    """Write `recordings/{digit}_{speaker}_{index}.wav` below `directory`, unless it exists, and return it."""
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        (temporary / "corpus" / "recordings").mkdir(parents=True)
        for speaker, variant in VOICES.items():
            for digit, word in enumerate(WORDS):
                for take in range(NUM_TAKES):
                    samples, fs = speak(word, f"en-us+{variant}", 150 + 20 * take, 40 + 10 * take)
                    path = temporary / "corpus" / "recordings" / f"{digit}_{speaker}_{take}.wav"
                    soundfile.write(path, to_pcm16(resample(samples, fs, FS)), FS)
        os.replace(temporary / "corpus", directory)
    return directory
