"""Change of sampling rate and of speed."""

from __future__ import annotations

import numpy as np
import soxr


def resample(samples: np.ndarray, rate: int, fs: int, speed: float = 1.0) -> np.ndarray:
    """Give float32 `samples` `(T,)` of `rate` Hz as `round(T * fs / (rate * speed))` samples at `fs` Hz.

    `speed` 0.9 plays slower: longer, and every frequency times 0.9, as sox's `speed` effect does.
    """
    if rate == fs and speed == 1.0:
        return samples
    wanted = round(len(samples) * fs / (rate * speed))
    out = soxr.resample(samples, rate * speed, fs, quality="VHQ")
    return out[:wanted] if len(out) >= wanted else np.pad(out, (0, wanted - len(out)))


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Round float samples in [-1, 1) to int16, clipping what lies outside; 16-bit sources come back unchanged."""
    return np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
