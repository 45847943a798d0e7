"""Writing 16-bit sounds of one part of the work as files or as an archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from espnet2_kd.data.scratch import scratch_file
from espnet2_kd.data.table import replacing

FORMATS = ("flac", "wav", "flac.ark", "wav.ark")


def write_sounds(folder: Path, name: str, sounds: dict[str, np.ndarray], fs: int, audio_format: str) -> dict[str, str]:
    """Write int16 `{utterance: (T,)}` below `folder/name`; give each one's wav.scp entry relative to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write = _write_archive if audio_format.endswith(".ark") else _write_files
    return write(folder, name, sounds, fs, audio_format.split(".")[0])


def sizes(folder: Path, entries: dict[str, str]) -> dict[str, int]:
    """Give the size in bytes of every file that `entries` point into."""
    files = sorted({entry.rsplit(":", 1)[0] for entry in entries.values()})
    return {file: os.path.getsize(folder / file) for file in files}


def audio_sum(sounds: dict[str, np.ndarray]) -> str:
    """Sum of the SHA-256 of every utterance with its int16 samples, as hexadecimal: the same in any order, see `joint_sum`."""
    digests = (hashlib.sha256(utt.encode() + b"\0" + samples.tobytes()) for utt, samples in sounds.items())
    return _hexadecimal(sum(int.from_bytes(digest.digest(), "big") for digest in digests))


def joint_sum(sums: Iterable[str]) -> str:
    """The `audio_sum` of several parts together."""
    return _hexadecimal(sum(int(part, 16) for part in sums))


def _hexadecimal(number: int) -> str:
    return f"{number % (1 << 256):064x}"


def _write_files(folder: Path, name: str, sounds: dict[str, np.ndarray], fs: int, container: str) -> dict[str, str]:
    (folder / name).mkdir(exist_ok=True)
    for utt, samples in sounds.items():
        with replacing(folder / name / f"{utt}.{container}", "wb") as stream:
            soundfile.write(stream, samples, fs, format=container.upper(), subtype="PCM_16")
    wanted = {f"{utt}.{container}" for utt in sounds}
    for file in (folder / name).iterdir():
        if file.name not in wanted:
            file.unlink()
    return {utt: f"{name}/{utt}.{container}" for utt in sounds}


def _write_archive(folder: Path, name: str, sounds: dict[str, np.ndarray], fs: int, container: str) -> dict[str, str]:
    from espnet2_kd.data.kaldi_ark import write_ark_audio

    with scratch_file(folder / f"{name}.ark") as temporary:
        offsets = write_ark_audio(temporary, sounds, fs, container)
        os.replace(temporary, folder / f"{name}.ark")
    return {utt: f"{name}.ark:{offset}" for utt, offset in offsets.items()}
