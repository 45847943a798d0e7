"""Speech from espeak-ng, for corpora that are made on the spot."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection

import numpy as np


class EspeakError(RuntimeError):
    """espeak-ng is absent, lacks a voice, or says nothing."""


def _run(*arguments: str) -> bytes:
    try:
        return subprocess.run(["espeak-ng", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise EspeakError("espeak-ng: not found: install it, for example: apt-get install espeak-ng") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise EspeakError(f"espeak-ng: ended with status {error.returncode} ({said}): install it again") from error


def espeak_version() -> str:
    """Return the version of espeak-ng; raises EspeakError with the line to type when it is not installed."""
    answer = _run("--version").decode(errors="replace")
    match = re.search(r"text-to-speech: (\S+)", answer)
    return match.group(1) if match else answer.strip()


def _listed(query: str) -> set[str]:
    """Return the language names and the file names of the voices that espeak-ng lists for a query."""
    columns = [line.split() for line in _run(f"--voices={query}").decode(errors="replace").splitlines()[1:]]
    return {name for column in columns if len(column) >= 5 for name in (column[1], column[4].rpartition("/")[2])}


def check_voices(accents: Collection[str], variants: Collection[str]) -> None:
    """Raise EspeakError naming every absent accent (`en-us`) and variant (`m3`).

    espeak-ng answers an unknown variant with its default voice and exit code 0, which would put one voice in two splits.
    """
    missing = [name for name in accents if name not in _listed("en")]
    missing += [name for name in variants if name not in _listed("variant")]
    if missing:
        problem = f"espeak-ng {espeak_version()}: lacks the voices {' '.join(missing)}"
        raise EspeakError(f"{problem}: install espeak-ng 1.50 or newer with its voice data")


def speak(text: str, voice: str, words_per_minute: int = 175, pitch: int = 50) -> tuple[np.ndarray, int]:
    """Return the waveform `(N,)` in -1..1 and its sampling rate; `voice` as `en-us+m3`, `pitch` from 0 to 99."""
    wav = _run("-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "--stdout", text)
    # The header of a streamed WAV holds no valid length, which sound libraries refuse.
    if len(wav) <= 44:
        raise EspeakError(f"espeak-ng: voice {voice} said nothing for {text!r}: check the installation")
    return np.frombuffer(wav[44:], dtype="<i2") / 32768.0, int.from_bytes(wav[24:28], "little")
