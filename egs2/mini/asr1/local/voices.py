"""The espeak-ng voices of the corpus, and speaking one sentence with one of them."""

import re
import subprocess

import numpy as np

ACCENTS = {
    "us": "en-us",
    "gb": "en-gb",
    "sc": "en-gb-scotland",
    "rp": "en-gb-x-rp",
    "la": "en-gb-x-gbclan",
    "wm": "en-gb-x-gbcwmd",
    "ca": "en-029",
}

VARIANTS = {
    "train": [
        "m1",
        "m2",
        "m3",
        "m5",
        "m6",
        "m8",
        "f1",
        "f2",
        "f4",
        "f5",
        "Andy",
        "Annie",
        "Alex",
        "steph",
        "Michael",
        "ed",
    ],
    "valid": ["m4", "f3", "Lee", "linda"],
    "test": ["m7", "Mike", "Alicia", "Andrea", "Denis"],
}


class MissingVoiceError(RuntimeError):
    """espeak-ng is absent, or lacks a voice that the corpus needs."""


def espeak_version() -> str:
    """Return the version line of espeak-ng; raises `MissingVoiceError` with the line to type when it is not installed."""
    try:
        answer = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise MissingVoiceError(
            f"espeak-ng: cannot be run ({error}): install it: apt-get install espeak-ng (or dnf, brew install espeak-ng)"
        ) from error
    match = re.search(r"text-to-speech: (\S+)", answer.stdout)
    return match.group(1) if match else answer.stdout.strip()


def _listed(query: str) -> set[str]:
    """Return the language names and the file names of the voices that espeak-ng lists for a query."""
    lines = subprocess.run(["espeak-ng", f"--voices={query}"], capture_output=True, text=True, check=True).stdout
    columns = [line.split() for line in lines.splitlines()[1:]]
    return {name for column in columns for name in (column[1], column[4].rpartition("/")[2])}


def check_voices() -> None:
    """Raise `MissingVoiceError` naming every absent accent and variant.

    espeak-ng answers an unknown variant with its default voice and exit code 0, which would put one voice in two splits.
    """
    accents, variants = _listed("en"), _listed("variant")
    missing = [name for name in ACCENTS.values() if name not in accents]
    missing += [name for names in VARIANTS.values() for name in names if name not in variants]
    if missing:
        problem = f"espeak-ng {espeak_version()}: lacks the voices {' '.join(missing)}"
        raise MissingVoiceError(f"{problem}: install espeak-ng 1.50 or newer with its voice data")


def speak(text: str, voice: str, words_per_minute: int, pitch: int) -> tuple[np.ndarray, int]:
    """Return the waveform `(N,)` in -1..1 and its sampling rate; `pitch` runs from 0 to 99."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "--stdout", text]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    if len(wav) <= 44:
        raise MissingVoiceError(f"espeak-ng: voice {voice} said nothing for {text!r}: check the installation")
    # The header of a streamed WAV holds no valid length, which sound libraries refuse.
    return np.frombuffer(wav[44:], dtype="<i2") / 32768.0, int.from_bytes(wav[24:28], "little")
