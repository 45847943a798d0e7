"""Lists of the public layout of the Free Spoken Digit Dataset: its recordings, and digit strings to join from them."""

from __future__ import annotations

import csv
import hashlib
import random
import re
from collections.abc import Iterable
from pathlib import Path

from espnet2_kd.data.problems import one_problem
from espnet2_kd.data.table import replacing

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = {
    "train": ("nicolas", "theo", "yweweler"),
    "valid": ("george",),
    "test": ("jackson",),
    "test_lucas": ("lucas",),
}
NUM_DIGITS = range(3, 9)
GAPS_MS = range(20, 200, 10)

_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")


def recordings(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Return `{speaker: [(digit, file name), ...]}` of `{digit}_{speaker}_{index}.wav`; DataError if a speaker lacks."""
    found: dict[str, list[tuple[int, str]]] = {}
    for path in sorted(folder.glob("*.wav")):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(match.group(2), []).append((int(match.group(1)), path.name))
    needed = [speaker for speakers in SPEAKERS.values() for speaker in speakers]
    if missing := [speaker for speaker in needed if speaker not in found]:
        what = f"no recordings of {', '.join(missing)} named <digit>_<speaker>_<index>.wav"
        raise one_problem(folder, what, "fetch the whole repository, version 1.0.10 or later")
    return found


def draw_strings(
    name: str, speakers: Iterable[str], found: dict[str, list[tuple[int, str]]], count: int, seed: int
) -> list[dict[str, str]]:
    """Return `count` strings of 3 to 8 recordings of one speaker, with a gap of 20 to 190 ms before each recording."""
    rng = random.Random(f"{seed}:{name}")
    speakers = sorted(speakers)
    strings = []
    for number in range(count):
        speaker = speakers[number % len(speakers)]
        chosen = [found[speaker][rng.randrange(len(found[speaker]))] for _ in range(rng.choice(NUM_DIGITS))]
        strings.append(
            {
                "string_id": f"{speaker}_{name}{number:05d}",
                "speaker": speaker,
                "text": " ".join(WORDS[digit] for digit, _ in chosen),
                "utt_ids": " ".join(Path(file).stem for _, file in chosen),
                "gaps_ms": " ".join(str(rng.choice(GAPS_MS)) for _ in chosen),
            }
        )
    return strings


def write_tsv(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows under a header line."""
    with replacing(path) as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_lists(folder: Path, lists: Path, sizes: dict[str, int], seed: int) -> tuple[Path, dict[str, Path]]:
    """Write the list of recordings and one list of strings per set, the same for the same seed and recordings."""
    found = recordings(folder)
    rows = [
        {"utt_id": Path(file).stem, "speaker": speaker, "text": WORDS[digit], "path": str((folder / file).resolve())}
        for speaker, files in sorted(found.items())
        for digit, file in files
    ]
    strings = {
        name: write_tsv(lists / f"strings_{name}.tsv", draw_strings(name, SPEAKERS[name], found, size, seed))
        for name, size in sizes.items()
    }
    return write_tsv(lists / "recordings.tsv", rows), strings


def recordings_sha256(folder: Path) -> str:
    """Return what `LC_ALL=C sha256sum *.wav | sha256sum` prints in the folder of the recordings."""
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.glob("*.wav")))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
