"""Audio files that hold less than they promise, which libsndfile accepts without a word (WAV, AIFF, Ogg)."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

import numpy as np
import soundfile

PIECE = 1 << 24  # samples, those of all channels counted
# Written by programs that could not seek back: "as long as it gets".
_OPEN_END = {0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFF000}
_OGG_END_OF_STREAM = 4
_OGG_MAX_PAGE = 65536


def read_samples(sound: soundfile.SoundFile, num_frames: int | None = None) -> np.ndarray:
    """Read the next `num_frames` (None: all) as float32 `(T, C)`, or as many as there are.

    Room is made piece by piece: a damaged header may promise more than any memory holds.
    """
    pieces, left = [], sound.frames if num_frames is None else num_frames
    most = max(1, PIECE // sound.channels)
    while left > 0:
        pieces.append(sound.read(min(left, most), dtype="float32", always_2d=True))
        left -= most
        if len(pieces[-1]) < most:
            break
    if not pieces:
        return np.zeros((0, sound.channels), dtype=np.float32)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def truncation(stream: BinaryIO) -> str | None:
    """Say how a whole audio file, open for reading, falls short of what its header promises, or return None."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    magic = stream.read(12)
    if magic[:4] in (b"RIFF", b"RIFX") and magic[8:] == b"WAVE":
        return _riff(stream, size, "<" if magic[:4] == b"RIFF" else ">")
    if magic[:4] == b"FORM" and magic[8:11] == b"AIF":
        promised = struct.unpack(">I", magic[4:8])[0] + 8
        return f"header promises {promised} bytes, {size} are there" if promised > size else None
    return _ogg(stream, size) if magic[:4] == b"OggS" else None


def _riff(stream: BinaryIO, size: int, order: str) -> str | None:
    while True:
        header = stream.read(8)
        if len(header) < 8:
            return "ends before its audio data"
        name, length = struct.unpack(f"{order}4sI", header)
        if name == b"data":
            there = size - stream.tell()
            if length > there and length not in _OPEN_END:
                return f"header promises {length} bytes of audio, {there} are there"
            return None
        stream.seek(length + length % 2, 1)


def _ogg(stream: BinaryIO, size: int) -> str | None:
    stream.seek(max(0, size - 2 * _OGG_MAX_PAGE))
    tail = stream.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27 or len(tail) < page + 27 + tail[page + 26]:
        return "last Ogg page is incomplete"
    lengths = tail[page + 27 : page + 27 + tail[page + 26]]
    if len(tail) < page + 27 + len(lengths) + sum(lengths):
        return "last Ogg page is incomplete"
    if not tail[page + 5] & _OGG_END_OF_STREAM:
        return "Ogg stream has no end mark"
    return None
