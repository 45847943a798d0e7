"""Audio in Kaldi archives; the only file that touches kaldiio."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import kaldiio
import numpy as np


def read_ark_audio(path: str | PathLike, offset: int) -> tuple[np.ndarray, int]:
    """Read the sound at byte `offset` of an archive as float32 `(T,)` or `(T, C)` in [-1, 1], and its rate.

    Raises ValueError or TypeError for anything that is not sound. Pickles, which kaldiio would run, are refused, and the
    archive is opened here, so that its name is never taken for a command.
    """
    with open(path, "rb") as stream:
        stream.seek(offset)
        if stream.read(3) == b"PKL":
            raise ValueError("the archive holds a pickle, not sound")
        stream.seek(offset)
        sound = kaldiio.matio.read_kaldi(stream)
    if not isinstance(sound, tuple):
        raise TypeError("the archive holds a matrix, not sound")
    rate, array = sound
    if np.issubdtype(array.dtype, np.integer):
        array = array / -float(np.iinfo(array.dtype).min)
    return np.asarray(array, dtype=np.float32), int(rate)


def write_ark_audio(
    path: str | PathLike, sounds: Mapping[str, np.ndarray], rate: int, container: str
) -> dict[str, int]:
    """Write 16-bit `sounds` `{utterance: (T,)}` as flac or wav into one archive; give each one's byte offset."""
    offsets = {}
    with open(path, "wb") as stream:
        for utt, samples in sounds.items():
            offsets[utt] = stream.tell() + len(utt.encode()) + 1
            kwargs = {"format": container, "subtype": "PCM_16"}
            kaldiio.save_ark(stream, {utt: (samples, rate)}, write_function="soundfile", write_kwargs=kwargs)
    return offsets


def first_matrix(scp: str | PathLike) -> tuple[str, np.ndarray]:
    """The first entry `(key, (T, D))` of an scp of features, `<key> <archive>:<offset>`; tells their width.

    Raises ValueError for an empty scp or an entry of another form (commands are not run).
    """
    with open(scp, encoding="utf-8") as lines:
        key, _, place = next(lines, "").strip().partition(" ")
    archive, _, offset = place.rpartition(":")
    if not archive or not offset.isdigit():
        raise ValueError(f"{scp}:1: {key}: `<archive>:<offset>` is expected, not {place!r}")
    with open(archive, "rb") as stream:
        stream.seek(int(offset))
        if stream.read(3) == b"PKL":
            raise ValueError(f"{scp}:1: {key}: the archive holds a pickle, not features")
        stream.seek(int(offset))
        return key, kaldiio.matio.read_kaldi(stream)
