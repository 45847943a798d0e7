"""Recordings of noise for ESPnet2's `noise_scp`, so that a training hears another one with every utterance."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from espnet2_kd.data.audio import AudioFault
from espnet2_kd.data.noise import WHITE, noise_files, read_noise
from espnet2_kd.data.parts import file_state
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.resample import to_pcm16
from espnet2_kd.data.sound_files import write_sounds
from espnet2_kd.data.spoken import keyed_rng
from espnet2_kd.data.table import replacing

WHITE_SECONDS = 60
_RMS = 0.1


def write_noise_list(target: str | PathLike, sources: Sequence[str], split: str = "train", fs: int = 16000) -> int:
    """Write `target/wav.scp` and, below `target/data`, the 16-bit FLAC files at rate `fs` that it names.

    ESPnet2 opens the files of a `noise_scp` at any place, which libsndfile cannot do in some compressed ones, and draws its
    lines with equal chances. So each source gets as many lines as the one with the most recordings has, by repetition.

    Args:
        sources: `white`, `name=folder`. A folder with lists of splits gives the recordings of `split`, another one all.

    Returns:
        How many recordings there are.

    Raises:
        DataError: naming every recording that cannot be used.
    """
    target = Path(target)
    if not sources:
        raise one_problem(target / "wav.scp", "no noises to take", f"give {WHITE} or name=folder")
    problems: list[Problem] = []
    files: dict[str, list[str]] = {}
    for source in sources:
        name, _, folder = source.partition("=")
        if source != WHITE and not (name and folder):
            raise one_problem(target / "wav.scp", f"{source} is no noise", f"write {WHITE} or name=folder")
        if name in files:
            raise one_problem(target / "wav.scp", f"two noises are called {name}", "give each a name of its own")
        sounds = _white(fs) if source == WHITE else _recordings(folder, split, fs, problems)
        if not problems:
            entries = write_sounds(target / "data", name, sounds, fs, "flac")
            files[name] = [f"{target / 'data'}/{entry}" for entry in entries.values()]
    if problems:
        raise DataError(problems)
    most = max(map(len, files.values()))
    with replacing(target / "wav.scp") as stream:
        for name, paths in sorted(files.items()):
            stream.writelines(f"{name}-{number:05d} {paths[number % len(paths)]}\n" for number in range(most))
    return sum(map(len, files.values()))


def _white(fs: int) -> dict[str, np.ndarray]:
    return {WHITE: to_pcm16(_RMS * keyed_rng(0, WHITE).standard_normal(WHITE_SECONDS * fs))}


def _recordings(folder: str, split: str, fs: int, problems: list[Problem]) -> dict[str, np.ndarray]:
    recordings = noise_files(folder, split if (Path(folder) / f"{split}.tsv").is_file() else None)
    sounds: dict[str, np.ndarray] = {}
    for number, path in enumerate(recordings.values(), 1):
        try:
            sounds[f"{number:05d}"] = to_pcm16(read_noise(path, fs, str(file_state(path))))
        except AudioFault as fault:
            problems.append(Problem(path, 0, "-", fault.what, fault.remedy))
    return sounds
