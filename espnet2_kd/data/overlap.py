"""What a test set should not share with the training set: recordings, and in most cases speakers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from espnet2_kd.data.problems import Problem

SHOWN = 3


def overlaps(train: str | PathLike, others: Sequence[str | PathLike]) -> list[Problem]:
    """List the sets that share recordings with `train`, and warn of those that share speakers.

    All are data directories without faults. What is kept in memory grows with the others, not with `train`. Where
    `segments` cut recordings into utterances, two sets may have parts of one.
    """
    train, problems = Path(train), []
    seen = {path: _Seen(path) for path in dict.fromkeys(map(Path, others)) if path != train}
    for _, speaker in _lines(train / "utt2spk"):
        for other in seen.values():
            if speaker in other.speakers:
                other.shared_speakers.add(speaker)
    for utt, entry in _lines(train / "wav.scp") if not (train / "segments").exists() else ():
        for other in seen.values():
            if entry in other.recordings:
                other.shared_recordings.setdefault(entry, utt)
    for path, other in seen.items():
        if other.shared_recordings:
            entry, twin = next(iter(other.shared_recordings.items()))
            line, utt = other.recordings[entry]
            what = f"{len(other.shared_recordings)} recording(s) of {train}, this one is its {twin}"
            problems.append(Problem(str(path / "wav.scp"), line, utt, what, "keep each recording in one set"))
        if other.shared_speakers:
            names = sorted(other.shared_speakers)
            what = (
                f"{len(names)} speaker(s) of {train}: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
            )
            remedy = "what is measured here says little of new speakers"
            problems.append(Problem(str(path / "utt2spk"), 0, "-", what, remedy, fatal=False))
    return problems


class _Seen:
    """Speakers and whole recordings of a set, and which of them another has, too."""

    def __init__(self, path: Path) -> None:
        self.speakers = {speaker for _, speaker in _lines(path / "utt2spk")}
        self.recordings: dict[str, tuple[int, str]] = {}
        if not (path / "segments").exists():
            self.recordings = {entry: (line, utt) for line, (utt, entry) in enumerate(_lines(path / "wav.scp"), 1)}
        self.shared_speakers: set[str] = set()
        self.shared_recordings: dict[str, str] = {}


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            key, _, value = line.strip().partition(" ")
            yield key, value.strip()
