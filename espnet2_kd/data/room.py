"""A small room around a voice: resampling, a synthetic impulse response, coloured noise and a level."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from espnet2_kd.data.resample import resample

FS = 16000


@dataclass(frozen=True)
class Room:
    """One recording situation: times in seconds, levels in dB."""

    t60: float
    direct_to_reverberant_db: float
    snr_db: float
    rms_db: float
    before: float
    after: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Room":
        """Return a random home room: short reverberation, a near voice, little background noise."""
        ranges = {"t60": (0.1, 0.4), "direct_to_reverberant_db": (4.0, 16.0), "snr_db": (15.0, 40.0)}
        ranges |= {"rms_db": (-32.0, -20.0), "before": (0.05, 0.25), "after": (0.05, 0.25)}
        return cls(**{name: round(float(rng.uniform(low, high)), 3) for name, (low, high) in ranges.items()})


def impulse_response(room: Room, rng: np.random.Generator) -> np.ndarray:
    """Return a response `(N,)`: the direct sound, a few early echoes, then exponentially decaying noise."""
    time = np.arange(int(room.t60 * FS)) / FS
    decay = 10.0 ** (-3.0 * time / room.t60)
    tail = rng.standard_normal(len(time)) * decay
    tail[: int(0.005 * FS)] = 0.0
    for delay in rng.uniform(0.002, 0.020, size=rng.integers(3, 7)):
        echo = int(delay * FS)
        tail[echo] += rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 4.0) * decay[echo]
    tail *= np.sqrt(10.0 ** (-room.direct_to_reverberant_db / 10.0) / np.sum(tail**2))
    tail[0] = 1.0
    return tail


def coloured_noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise `(num_samples,)` of unit power whose power falls as frequency to the power of 0 to -2."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.maximum(np.fft.rfftfreq(num_samples, 1.0 / FS), 50.0)
    noise = np.fft.irfft(spectrum * frequency ** (-rng.uniform(0.0, 2.0) / 2.0), num_samples)
    return noise / np.sqrt(np.mean(noise**2))


def record(speech: np.ndarray, fs: int, room: Room, rng: np.random.Generator) -> np.ndarray:
    """Return what a microphone in a room hears of `speech` `(N,)`, at 16 kHz, below full scale.

    The SNR compares the noise with voice and echoes over the time of the voice, so it does not depend on the pauses.
    """
    dry = resample(speech, fs, FS)
    before, after = int(room.before * FS), int(room.after * FS)
    wet = fftconvolve(np.pad(dry, (before, after)), impulse_response(room, rng))[: before + len(dry) + after]
    power = np.mean(wet[before : before + len(dry)] ** 2)
    heard = wet + coloured_noise(len(wet), rng) * np.sqrt(power) * 10.0 ** (-room.snr_db / 20.0)
    heard *= 10.0 ** (room.rms_db / 20.0) / np.sqrt(np.mean(heard**2))
    return heard * min(1.0, 0.99 / float(np.max(np.abs(heard))))
