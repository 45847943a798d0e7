"""Libri-Light: long recordings without transcripts, cut where the reader pauses."""

from __future__ import annotations

import json
import re
from pathlib import Path

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.problems import DataError, Problem, one_problem

LONGEST = 20.0  # seconds of an utterance


def cut(speech: list[tuple[float, float]], longest: float = LONGEST) -> list[tuple[float, float]]:
    """Join neighbouring stretches of speech, pauses between them included, up to `longest` seconds; cut longer ones evenly.

    Args:
        speech: (start, end) in seconds, in order, not overlapping: `voice_activity` of Libri-Light.
    """
    pieces: list[tuple[float, float]] = []
    for start, end in speech:
        if pieces and end - pieces[-1][0] <= longest:
            pieces[-1] = (pieces[-1][0], end)
            continue
        num = max(1, -int(-(end - start) // longest))
        pieces += [(start + (end - start) * n / num, start + (end - start) * (n + 1) / num) for n in range(num)]
    return pieces


def read_speech(path: Path) -> list[tuple[float, float]]:
    """Read `voice_activity` of a JSON file of Libri-Light; raises ValueError where it is not what it should be."""
    content = json.loads(path.read_text(encoding="utf-8"))
    try:
        speech = [(float(start), float(end)) for start, end in content["voice_activity"]]
    except (KeyError, TypeError, ValueError):
        raise ValueError("no `voice_activity: [[start, end], ...]` in seconds") from None
    times = [time for stretch in speech for time in stretch]
    if times != sorted([0.0, *times])[1:]:
        raise ValueError("`voice_activity` is not in order")
    return speech


def write_unlabelled(folder: Path, target: Path) -> DataDir:
    """Write `<speaker>/<book>/<file>.flac` with the `.json` beside each as a data directory without text.

    Args:
        folder: `small/`, `medium/` or `large/` of Libri-Light, or the folder that holds them.

    Raises:
        DataError: with all problems, before anything is written.
    """
    descriptions = sorted([*folder.glob("*/*/*.json"), *folder.glob("*/*/*/*.json")])
    if not descriptions:
        raise one_problem(
            folder, "holds no <speaker>/<book>/*.json", "give the folder of unpacked Libri-Light archives"
        )
    problems: list[Problem] = []
    tables: dict[str, dict[str, str]] = {"wav.scp": {}, "segments": {}, "utt2spk": {}}
    for path in descriptions:
        speaker = path.parent.parent.name
        recording = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{speaker}-{path.parent.name}-{path.stem}")
        audio = path.with_suffix(".flac")
        try:
            pieces = cut(read_speech(path))
        except ValueError as error:
            problems.append(Problem(str(path), 0, recording, str(error), "unpack the archive again"))
            continue
        if not audio.is_file():
            problems.append(Problem(str(path), 0, recording, f"no {audio.name} beside it", "unpack the archive again"))
        if recording in tables["wav.scp"]:
            problems.append(Problem(str(path), 0, recording, "is there twice", "give one of the folders"))
        if not pieces:
            continue
        tables["wav.scp"][recording] = str(audio)
        for start, end in pieces:
            utt = f"{recording}-{round(start * 100):07d}"
            tables["segments"][utt] = f"{recording} {start:.3f} {end:.3f}"
            tables["utt2spk"][utt] = speaker
    if problems:
        raise DataError(problems)
    if not tables["wav.scp"]:
        raise one_problem(folder, "no speech in any recording", "unpack the archive again")
    return DataDir(target, tables).write(target)
