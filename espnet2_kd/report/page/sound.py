"""An utterance to hear and to see: compressed sound and its spectrogram as a picture, both as base64."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np

from espnet2_kd.data.audio import read_audio

RATE = 16000
MAX_SECONDS = 60.0
NUM_BANDS = 72
MAX_COLUMNS = 700
WINDOW, HOP = 400, 160
FLOOR_DB = 75.0  # below the loudest


@dataclass(frozen=True)
class Clip:
    """Sound as FLAC and spectrogram as PNG, base64; seconds are those of the whole utterance, `shown` of the clip."""

    sound: str
    picture: str
    seconds: float
    shown: float

    @property
    def size(self) -> int:
        return len(self.sound) + len(self.picture)


def make_clip(entry: str) -> Clip:
    """Read a wav.scp entry, at most a minute of it, as 16 kHz mono; raises AudioFault. Commands are not run."""
    from espnet2_kd.data.resample import resample, to_pcm16

    samples, rate = read_audio(entry, ref_channel="mix")
    seconds = len(samples) / rate
    samples = resample(samples[: round(MAX_SECONDS * rate)], rate, RATE)
    sound = _flac(to_pcm16(samples))
    return Clip(_base64(sound), _base64(png(log_spectrogram(samples))), seconds, len(samples) / RATE)


def log_spectrogram(samples: np.ndarray) -> np.ndarray:
    """Give the power of 16 kHz `samples` (N,) in mel bands as bytes (NUM_BANDS, T), low bands first, 255 the loudest.

    T is at most MAX_COLUMNS; column t stands for the t-th of T equal parts of the sound.
    """
    # scipy.signal would take seconds to load.
    padded = np.pad(samples, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    bands = _mel_filters(power.shape[1]) @ power.T
    columns = min(MAX_COLUMNS, bands.shape[1])
    edges = np.linspace(0, bands.shape[1], columns + 1).astype(int)[:-1]
    bands = np.maximum.reduceat(bands, edges, axis=1)
    levels = 10 * np.log10(np.maximum(bands, 1e-12))
    return np.clip(255 * (levels - levels.max() + FLOOR_DB) / FLOOR_DB, 0, 255).astype(np.uint8)


def png(levels: np.ndarray) -> bytes:
    """Draw bytes (F, T) with row 0 at the bottom, in 64 colours, which compress far better than 256."""
    from matplotlib import colormaps
    from PIL import Image  # which matplotlib brings

    image = Image.fromarray(np.ascontiguousarray(levels[::-1] // 4))
    palette = (colormaps["magma"](np.linspace(0, 1, 64))[:, :3] * 255).astype(np.uint8)
    image.putpalette(palette.tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _mel_filters(num_bins: int) -> np.ndarray:
    """Triangles (NUM_BANDS, num_bins) of equal width on the mel scale."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), NUM_BANDS + 2)
    centres = 700 * (10 ** (mel / 2595) - 1)
    bins = np.linspace(0, RATE / 2, num_bins)
    rise = (bins - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    fall = (centres[2:, None] - bins) / (centres[2:] - centres[1:-1])[:, None]
    filters = np.clip(np.minimum(rise, fall), 0, None)
    # The lowest triangles may fall between two bins.
    filters[np.arange(NUM_BANDS), np.abs(bins - centres[1:-1, None]).argmin(1)] += 1e-3
    return filters


def _flac(samples: np.ndarray) -> bytes:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
