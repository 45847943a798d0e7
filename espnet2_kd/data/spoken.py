"""Corpora spoken by espeak-ng: many voices in many small rooms, the same for the same seed on any machine."""

import csv
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from espnet2_kd.data.espeak import check_voices, espeak_version, speak
from espnet2_kd.data.progress import Progress
from espnet2_kd.data.room import FS, Room, record
from espnet2_kd.data.table import replacing

ACCENTS = {
    "us": "en-us",
    "gb": "en-gb",
    "sc": "en-gb-scotland",
    "rp": "en-gb-x-rp",
    "la": "en-gb-x-gbclan",
    "wm": "en-gb-x-gbcwmd",
    "ca": "en-029",
}
# File names of espeak-ng's variants (throats), so that every split has voices of its own; any other set has those of train.
VARIANTS = {
    "train": (
        *("m1", "m2", "m3", "m5", "m6", "m8", "f1", "f2", "f4", "f5"),
        *("Andy", "Annie", "Alex", "steph", "Michael", "ed"),
    ),
    "valid": ("m4", "f3", "Lee", "linda"),
    "test": ("m7", "Mike", "Alicia", "Andrea", "Denis"),
}
# Raise it whenever the sound of an utterance changes, so that audio of an earlier version is made again.
RENDER_VERSION = 1


@dataclass(frozen=True)
class SpokenUtterance:
    """One line of a corpus: who says what, how fast and how high, and where."""

    utt_id: str
    speaker: str
    split: str
    text: str
    intent: str
    voice: str
    words_per_minute: int
    pitch: int
    room: Room

    @classmethod
    def draw(
        cls, number: int, split: str, text: str, intent: str, rng: np.random.Generator, seed: int
    ) -> "SpokenUtterance":
        """Return the `number`-th utterance of a split, with a voice from `rng` and a room that its name decides."""
        accent = str(rng.choice(list(ACCENTS)))
        variant = str(rng.choice(VARIANTS.get(split) or VARIANTS["train"]))
        speaker = f"{accent}{variant.lower()}"
        utt_id = f"{speaker}_{split}{number:05d}"
        return cls(
            utt_id=utt_id,
            speaker=speaker,
            split=split,
            text=text,
            intent=intent,
            voice=f"{ACCENTS[accent]}+{variant}",
            words_per_minute=int(rng.integers(140, 201)),
            pitch=int(rng.integers(30, 71)),
            room=Room.draw(keyed_rng(seed, f"room:{utt_id}")),
        )

    @property
    def path(self) -> str:
        """File below the corpus directory."""
        return f"audio/{self.split}/{self.speaker}/{self.utt_id}.flac"


def keyed_rng(seed: int, key: str) -> np.random.Generator:
    """Return a generator that depends on the seed and the key only, not on the order or the process of the work."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:16], "big"))


def speak_corpus(
    directory: Path, utterances: Sequence[SpokenUtterance], made_from: dict[str, Any], seed: int, num_jobs: int
) -> bool:
    """Make audio files, `corpus.tsv` and `info.json` below `directory` and return whether anything had to be done.

    `info.json` is written last and names what the audio was made from (`made_from` beside the rest); audio made from
    something else is removed first. Raises `EspeakError` when espeak-ng or one of its voices is missing.
    """
    info = {
        "espeak_ng": espeak_version(),
        "seed": seed,
        **made_from,
        "render_version": RENDER_VERSION,
        "plan_sha256": hashlib.sha256(json.dumps([asdict(u) for u in utterances]).encode()).hexdigest(),
    }
    made, planned = directory / "info.json", directory / "plan.json"
    complete = made.exists() and json.loads(made.read_text()) == info
    if complete and all((directory / utterance.path).exists() for utterance in utterances):
        return False
    check_voices(ACCENTS.values(), [variant for variants in VARIANTS.values() for variant in variants])
    made.unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    if not planned.exists() or json.loads(planned.read_text()) != info:
        for old in directory.glob("audio/*/*/*.flac"):
            old.unlink()
        with replacing(planned) as stream:
            stream.write(json.dumps(info, indent=2) + "\n")
    for leftover in directory.glob("audio/*/*/.*.tmp"):
        leftover.unlink()
    with ProcessPoolExecutor(num_jobs) as pool:
        table = []
        with Progress(f"speak {directory}", len(utterances)) as progress:
            for row in pool.map(partial(_render, directory=directory, seed=seed), utterances, chunksize=16):
                table.append(row)
                progress.step()
    with replacing(directory / "corpus.tsv") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(table[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    with replacing(made) as stream:
        stream.write(json.dumps(info, indent=2) + "\n")
    return True


def note_spoken(data_root: str | Path, spoken: bool) -> None:
    """Leave `data_root/synthetic` where a program speaks in the test sets, which reports then say, and only there."""
    note = Path(data_root) / "synthetic"
    if spoken:
        note.write_text(f"{espeak_version()}\n", encoding="utf-8")
    else:
        note.unlink(missing_ok=True)


def speak_unlabelled(directory: Path, sentences: Sequence[str], seed: int, num_jobs: int) -> Path:
    """As `speak_corpus`, of a set `unlabelled` without intents, in the voices of train; returns its table."""
    rng = keyed_rng(seed, "voices:unlabelled")
    utterances = [SpokenUtterance.draw(n, "unlabelled", text, "", rng, seed) for n, text in enumerate(sentences)]
    speak_corpus(directory, utterances, {"size": len(sentences)}, seed, num_jobs)
    return directory / "corpus.tsv"


def _render(utterance: SpokenUtterance, directory: Path, seed: int) -> dict[str, str | float]:
    """Write one audio file, unless it exists, and return its row of `corpus.tsv`."""
    path = directory / utterance.path
    if not path.exists():
        speech, fs = speak(utterance.text, utterance.voice, utterance.words_per_minute, utterance.pitch)
        heard = record(speech, fs, utterance.room, keyed_rng(seed, utterance.utt_id))
        with replacing(path, "wb") as stream:
            soundfile.write(stream, np.round(heard * 32767.0).astype(np.int16), FS, format="FLAC")
    row = asdict(utterance)
    row.update(row.pop("room"), dur=round(soundfile.info(path).duration, 3), path=utterance.path)
    return row
