"""Audio in pieces, from a file or as it arrives on standard input."""

import sys
import wave
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from espnet2_kd.data.audio import AudioFault, named, read_audio
from espnet2_kd.data.resample import resample

# How files begin that would make noise as raw samples.
COMPRESSED = {b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"FORM": "aiff", b"caff": "caf"}


def read_pieces(name: str, rate: int, size: int, ref_channel: str | None = None) -> Iterator[np.ndarray]:
    """Give float32 pieces of ``size`` samples at ``rate`` Hz; the last may be shorter.

    Args:
        name: an audio file of any rate, or ``-`` for standard input.
        rate: sampling rate in Hz of the pieces.
        size: samples per piece.
        ref_channel: of a file with several channels: a number from 0, or ``mix``.

    Raises:
        AudioFault: which file, what is wrong and what to do.
    """
    if name == "-":
        yield from stream_pieces(sys.stdin.buffer, rate, size)
        return
    with named(name):
        samples, file_rate = read_audio(name, ref_channel=ref_channel)
    samples = resample(samples, file_rate, rate)
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def stream_pieces(stream: BinaryIO, rate: int, size: int) -> Iterator[np.ndarray]:
    """Give pieces of a stream that cannot be rewound: mono 16-bit wav at ``rate`` Hz, or raw samples of that kind.

    Raises:
        AudioFault: a wav header that says otherwise, or a file of another kind.
    """
    begin = stream.peek(4)[:4]
    if kind := next((name for mark, name in COMPRESSED.items() if begin.startswith(mark)), None):
        raise AudioFault(
            f"standard input is {kind}",
            f"give the file's name, or send raw samples: ffmpeg -i FILE -f s16le -ac 1 -ar {rate} -",
        )
    if begin != b"RIFF":
        while data := stream.read(2 * size):
            yield _floats(data)
        return
    with wave.open(stream) as sound:
        channels, bits, wav_rate = sound.getnchannels(), 8 * sound.getsampwidth(), sound.getframerate()
        if (channels, bits, wav_rate) != (1, 16, rate):
            raise AudioFault(
                f"standard input has {channels} channel(s), {bits} bits, {wav_rate} Hz",
                f"send mono, 16 bits, {rate} Hz, for example: sox FILE -t wav -b 16 -c 1 -r {rate} -",
            )
        while data := sound.readframes(size):
            yield _floats(data)


def _floats(data: bytes) -> np.ndarray:
    whole = len(data) // 2 * 2
    return np.frombuffer(data[:whole], dtype="<i2").astype(np.float32) / 32768.0
