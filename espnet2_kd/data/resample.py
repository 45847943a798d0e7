"""Change of sampling rate and of speed."""

from __future__ import annotations

import math

import numpy as np
import soxr

# Of the low-pass of a stream: zero crossings on either side, the shape of the Kaiser window, and the edge as a share of the
# lower rate's half. What could fold back is 80 dB down; at 16 kHz, 7.3 kHz still pass.
CROSSINGS, KAISER_BETA, EDGE = 64, 8.0, 0.955


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


class StreamResampler:
    """Changes the rate of audio as it arrives, whatever the pieces, with a delay of 64 samples of the lower rate: 4 ms at 16 kHz.

    A windowed sinc without shift in time. (The streams of soxr give their output in blocks, up to 40 ms later.)

    rate: of what comes, in Hz.
    fs: of what is wanted.
    """

    def __init__(self, rate: int, fs: int) -> None:
        factor = math.gcd(rate, fs)
        self.up, self.down = fs // factor, rate // factor
        self.rate, self.fs = rate, fs
        cutoff = EDGE * min(1.0, fs / rate)
        self.reach = math.ceil(CROSSINGS / cutoff)
        # Row p: the filter for an output that lies p / up behind an input sample, (up, 2 reach).
        offsets = np.arange(1 - self.reach, self.reach + 1) - np.arange(self.up)[:, None] / self.up
        window = np.i0(KAISER_BETA * np.sqrt(np.clip(1.0 - (offsets / self.reach) ** 2, 0.0, None))) / np.i0(
            KAISER_BETA
        )
        self.filters = cutoff * np.sinc(cutoff * offsets) * window
        # Silence stands before the beginning.
        self.waiting = np.zeros(self.reach - 1)
        self.num_in = self.num_out = 0
        self.dropped = 0

    def accept(self, samples: np.ndarray, final: bool = False) -> np.ndarray:
        """Next samples `(N,)`, N >= 0 -> float32 samples now known; in all `round(T * fs / rate)` when the `final` ones are in."""
        if self.up == self.down:
            return samples
        self.num_in += len(samples)
        parts = [self.waiting, samples] + ([np.zeros(self.reach)] if final else [])
        self.waiting = np.concatenate(parts)
        end = round(self.num_in * self.fs / self.rate) if final else self._num_known()
        if end <= self.num_out:
            return np.zeros(0, dtype=np.float32)
        times = np.arange(self.num_out, end) * self.down
        # Input sample i of the stream stands at place i + reach - 1 - dropped, and the filter begins reach - 1 before it.
        begins, phases = times // self.up - self.dropped, times % self.up
        windows = np.lib.stride_tricks.sliding_window_view(self.waiting, 2 * self.reach)[begins]
        # A product where one filter serves all, as from 48 to 16 kHz: many times quicker.
        out = windows @ self.filters[0] if self.up == 1 else np.einsum("nk,nk->n", windows, self.filters[phases])
        self.num_out = end
        keep = end * self.down // self.up - self.dropped
        self.waiting, self.dropped = self.waiting[keep:].copy(), self.dropped + keep
        return out.astype(np.float32)

    def _num_known(self) -> int:
        """How many outputs can be computed from the samples so far: those up to `reach` samples before the last."""
        last = self.num_in - 1 - self.reach
        return (last * self.up + self.up - 1) // self.down + 1 if last >= 0 else 0
