"""A tiny copy of the layout of Fluent Speech Commands, spoken by espeak-ng, to try the recipe out without the recordings."""

from __future__ import annotations

import csv
import os
import uuid
from pathlib import Path

import soundfile

from espnet2_kd.data.espeak import speak
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.scratch import scratch_folder

FS = 16000
# One voice per speaker, with ids like those of the corpus.
SPEAKERS = {
    "train": {"2BqVo8kVB2Skwgy1": "us+m1", "4BrX8aDqK2cLZRY2": "gb+f1", "52XVOeXMXYuaElY3": "us+m3"},
    "valid": {"NgQEvO2x7Vh3xy24": "gb+f2", "X4vEl3glp9urv4G5": "us+m6"},
    "test": {"4aGjX3AG5xcxeL76": "gb+m4", "7NEaXjeLX3sg3y87": "us+f4"},
}
COLUMNS = ("", "path", "speakerId", "transcription", "action", "object", "location")
COMMANDS = (
    ("Turn on the lights", "activate", "lights", "none"),
    ("Switch on the kitchen lights", "activate", "lights", "kitchen"),
    ("Lights off in the bedroom, please", "deactivate", "lights", "bedroom"),
    ("It's too dark, turn on the washroom lamps", "activate", "lights", "washroom"),
    ("Play some music", "activate", "music", "none"),
    ("Stop the music", "deactivate", "music", "none"),
    ("Make it louder", "increase", "volume", "none"),
    ("That's too loud", "decrease", "volume", "none"),
    ("Turn up the heat in the kitchen", "increase", "heat", "kitchen"),
    ("Lower the bedroom temperature", "decrease", "heat", "bedroom"),
    ("Bring me my shoes", "bring", "shoes", "none"),
    ("Set the language to Chinese", "change language", "Chinese", "none"),
)
DEMOGRAPHICS = ("speakerId", "Self-reported fluency level ", "First Language spoken")
DEMOGRAPHICS += ("Current language used for work/school", "gender", "ageRange")


def make_corpus(directory: Path) -> Path:
    """Write `fluent_speech_commands_dataset/` with its tables and wavs, unless it exists; return `directory`."""
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        root = temporary / "corpus"
        corpus = root / "fluent_speech_commands_dataset"
        (corpus / "data").mkdir(parents=True)
        people = []
        for name, speakers in SPEAKERS.items():
            rows: list[tuple[object, ...]] = []
            for speaker, voice in speakers.items():
                people.append((speaker, "native", "English", "English", "male" if "+m" in voice else "female", "22-40"))
                folder = corpus / "wavs" / "speakers" / speaker
                folder.mkdir(parents=True)
                for text, *slots in COMMANDS:
                    wav = folder / f"{uuid.uuid5(uuid.NAMESPACE_OID, f'{speaker} {text}')}.wav"
                    samples, fs = speak(text, f"en-{voice}", 150)
                    soundfile.write(wav, to_pcm16(resample(samples, fs, FS)), FS)
                    rows.append((len(rows), wav.relative_to(corpus).as_posix(), speaker, text, *slots))
            write_csv(corpus / "data" / f"{name}_data.csv", COLUMNS, rows)
        write_csv(corpus / "data" / "speaker_demographics.csv", DEMOGRAPHICS, people)
        os.replace(root, directory)
    return directory


def write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Write a table with a header line."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
