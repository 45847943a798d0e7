"""Audio as people hand it over: a file, samples with their rate, or samples."""

from __future__ import annotations

from os import PathLike, fspath

import numpy as np
import torch

from espnet2_kd.data.audio import named, read_audio
from espnet2_kd.data.resample import resample

Samples = np.ndarray | torch.Tensor
Audio = str | PathLike | tuple[Samples, int] | Samples


def to_samples(audio: Audio, rate: int) -> np.ndarray:
    """Return float32 samples ``(N,)`` at ``rate`` Hz, between -1 and 1.

    audio: an audio file of any rate; ``(samples, rate in Hz)``; or samples ``(N,)`` at ``rate`` already. Whole numbers of
        16 or 32 bits are scaled.

    Raises:
        AudioFault: a file that cannot be read, or that has several channels.
        ValueError: samples that are not one channel, or a rate that cannot be.
    """
    if isinstance(audio, (str, PathLike)):
        with named(fspath(audio)):
            samples, given = read_audio(fspath(audio))
        return resample(samples, given, rate)
    samples, given = audio if isinstance(audio, tuple) else (audio, rate)
    samples = plain_samples(samples)
    if given < 1:
        raise ValueError(f"a sampling rate of {given} Hz: give samples and their rate, as (samples, 16000)")
    return resample(samples, int(given), rate)


def plain_samples(samples: Samples) -> np.ndarray:
    """Return float32 samples ``(N,)`` of an array or tensor of floating-point or whole numbers; raises ValueError."""
    array = samples.detach().cpu().numpy() if isinstance(samples, torch.Tensor) else np.asarray(samples)
    if array.ndim != 1:
        raise ValueError(f"samples of shape {list(array.shape)}: give one channel, of shape [num_samples]")
    if np.issubdtype(array.dtype, np.signedinteger):
        return array.astype(np.float32) / -float(np.iinfo(array.dtype).min)
    return np.array(array, dtype=np.float32)  # copied: what was read from a file may not be written to
