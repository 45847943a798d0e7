"""Audio in Kaldi archives; the only file that touches kaldiio."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from os import PathLike
from typing import Any, NoReturn

import kaldiio
import numpy as np
import soundfile

from espnet2_kd.data.integrity import read_samples, truncation


def refuse_programs() -> None:
    """From now on kaldiio, ESPnet2's data loader too, neither runs a command in place of an archive nor a pickle in one."""

    def refuse_command(command: str | bytes, *args: Any, **kwargs: Any) -> NoReturn:
        remedy = "write audio to files first: python -m espnet2_kd.bin.format_audio --allow_pipes true"
        said = command.decode(errors="replace") if isinstance(command, bytes) else command
        raise ValueError(f"is a command, not an archive: {said.strip()}: {remedy}")

    class RefusePickle:
        @staticmethod
        def load(stream: Any, **kwargs: Any) -> NoReturn:
            name = getattr(stream, "name", "archive")
            raise ValueError(f"{name}: holds a pickle, which is a program: write matrices or sound instead")

        dump = staticmethod(kaldiio.matio.pickle.dump)

    kaldiio.utils.my_popen = refuse_command
    kaldiio.matio.pickle = RefusePickle


def read_ark_audio(path: str | PathLike, offset: int) -> tuple[np.ndarray, int]:
    """Read the sound at byte `offset` of an archive as float32 `(T, C)` in [-1, 1], and its rate.

    Knows `AUDIO` entries of kaldiio and the plain WAV entries of Kaldi's wav-copy. It reads them without kaldiio, which
    would run a pickle or a command, and takes a cut-off WAV for a short one. Raises ValueError.
    """
    with open(path, "rb") as stream:
        stream.seek(offset)
        head = stream.read(8)
        if head[:5] == b"AUDIO" and len(head) > 5:
            stream.seek(offset + 6)
            length = int.from_bytes(stream.read(head[5]), "little")
        elif head[:4] == b"RIFF" and len(head) == 8:
            stream.seek(offset)
            length = 8 + int.from_bytes(head[4:], "little")
        else:
            raise ValueError("there is no sound")
        there = os.fstat(stream.fileno()).st_size - stream.tell()
        if there < length:  # before it is read: room is made for what is promised, whatever that is
            raise ValueError(f"truncated: {length} bytes promised, {there} are there")
        sound = stream.read(length)
    short = truncation(io.BytesIO(sound))
    if short:
        raise ValueError(f"truncated: {short}")
    with soundfile.SoundFile(io.BytesIO(sound)) as opened:
        return read_samples(opened), opened.samplerate


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
