"""Reading one stretch of audio, and saying what is wrong with it."""

from __future__ import annotations

import io
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from espnet2_kd.data.entry import ark_entry, is_command
from espnet2_kd.data.integrity import read_samples, truncation

# Kaldi's extract-segments accepts segments that run over the end by this much, and cuts them.
MAX_OVERSHOOT = 0.5
_UNKNOWN_LENGTH = 1 << 40


class AudioFault(Exception):
    """What is wrong with a recording, and the remedy."""

    def __init__(self, what: str, remedy: str):
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


class UnformattedFault(AudioFault):
    """A recording that formatting has an option for: several channels, a command."""


@contextmanager
def named(name: str) -> Iterator[None]:
    """Let an AudioFault that comes from inside begin with the name of the recording, unless it tells it."""
    try:
        yield
    except AudioFault as fault:
        raise type(fault)(fault.what if name in fault.what else f"{name}: {fault.what}", fault.remedy) from fault


def read_audio(
    entry: str, start: float = 0.0, end: float = -1.0, ref_channel: str | None = None, allow_pipes: bool = False
) -> tuple[np.ndarray, int]:
    """Read seconds `start` to `end` (-1: all) of a wav.scp entry as float32 `(T,)` and give its rate in Hz.

    An entry is a path, `path.ark:offset` or, where allowed, a command ending in a pipe. `ref_channel` is a channel
    number from 0, or `mix`. Raises AudioFault.
    """
    ark = ark_entry(entry)
    if is_command(entry):
        samples, rate = _from_command(entry, allow_pipes)
        samples = _cut(samples, rate, start, end)
    elif ark:
        samples, rate = _from_ark(*ark)
        samples = _cut(samples, rate, start, end)
    else:
        samples, rate = _from_file(entry, start, end)
    samples = _one_channel(samples, ref_channel)
    if len(samples) == 0:
        raise AudioFault("no samples", "record it again, or drop the utterance")
    if not np.isfinite(samples).all():
        raise AudioFault("samples that are not finite (NaN or infinity)", "write the file again with finite samples")
    return samples, rate


def num_seconds(entry: str) -> float:
    """Give the length of a plain audio file in seconds from its header; raises AudioFault."""
    try:
        return soundfile.info(entry).duration
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioFault(f"not readable as audio ({error})", "replace the file") from error


def _from_file(path: str, start: float, end: float) -> tuple[np.ndarray, int]:
    if not os.path.isfile(path):
        raise AudioFault(f"file not found: {path}", f"correct the path (relative paths start at {Path.cwd()})")
    try:
        with open(path, "rb") as stream:
            short = truncation(stream)
        if short:
            raise AudioFault(f"truncated: {short}: {path}", "copy or record the file again")
        with soundfile.SoundFile(path) as sound:
            return _read_stretch(sound, path, start, end), sound.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        what = "truncated or damaged" if "lost sync" in str(error) else "not readable as audio"
        raise AudioFault(f"{what} ({str(error).strip()}): {path}", "replace the file") from error


def _read_stretch(sound: soundfile.SoundFile, path: str, start: float, end: float) -> np.ndarray:
    total = sound.frames
    if total >= _UNKNOWN_LENGTH:
        return _cut(read_samples(sound), sound.samplerate, start, end)
    first, last = _bounds(total, sound.samplerate, start, end)
    if first:
        sound.seek(first)
    samples = read_samples(sound, last - first)
    if len(samples) < last - first:
        what = f"truncated: header promises {last - first} samples, {len(samples)} can be read: {path}"
        raise AudioFault(what, "copy or record the file again")
    return samples


def _bounds(total: int, rate: int, start: float, end: float) -> tuple[int, int]:
    first = round(start * rate)
    last = total if end == -1 else round(end * rate)
    if first > total or last > total + MAX_OVERSHOOT * rate:
        what = f"segment {start:g} to {end:g} s is outside the recording of {total / rate:.3f} s"
        raise AudioFault(what, "correct the times in segments")
    return first, min(last, total)


def _cut(samples: np.ndarray, rate: int, start: float, end: float) -> np.ndarray:
    first, last = _bounds(len(samples), rate, start, end)
    return samples[first:last]


def _from_ark(path: str, offset: int) -> tuple[np.ndarray, int]:
    from espnet2_kd.data.kaldi_ark import read_ark_audio

    try:
        return read_ark_audio(path, offset)
    except FileNotFoundError as error:
        raise AudioFault(f"file not found: {path}", "correct the path") from error
    except (ValueError, soundfile.LibsndfileError, OSError) as error:
        raise AudioFault(
            f"no readable sound at byte {offset} ({str(error).strip()}): {path}", "make the archive again"
        ) from error


def _from_command(entry: str, allow_pipes: bool) -> tuple[np.ndarray, int]:
    if not allow_pipes or not entry.endswith("|"):
        raise UnformattedFault(f"is a command, not a file: {entry}", "allow commands: --allow_pipes true")
    command = entry[:-1].strip()
    logging.getLogger(__name__).warning("running the command of wav.scp: %s", command)
    done = subprocess.run(command, shell=True, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise AudioFault(f"command ended with status {done.returncode} ({' '.join(last)}): {command}", "run it by hand")
    short = truncation(io.BytesIO(done.stdout))
    if short:
        raise AudioFault(f"command gave truncated audio ({short}): {command}", "run it by hand")
    try:
        with soundfile.SoundFile(io.BytesIO(done.stdout)) as sound:
            return read_samples(sound), sound.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioFault(f"command gave no readable audio ({error}): {command}", "run it by hand") from error


def _one_channel(samples: np.ndarray, ref_channel: str | None) -> np.ndarray:
    if samples.ndim == 1:
        return samples
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0]
    if ref_channel == "mix":
        return samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    if ref_channel is None:
        raise UnformattedFault(
            f"{channels} channels", f"choose one with --ref_channel 0 (to {channels - 1}), or --ref_channel mix"
        )
    if int(ref_channel) >= channels:
        raise AudioFault(
            f"no channel {ref_channel}, there are {channels}", f"--ref_channel 0 to {channels - 1}, or mix"
        )
    return samples[:, int(ref_channel)]
