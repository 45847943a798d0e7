"""Audio that stands in for a training utterance, and what formatting may then write."""

from __future__ import annotations

import io
import re

import numpy as np
import soundfile
from recipe import Recipe

LINE = 5  # of data/train/wav.scp, so in the first of the three parts that are formatted
_TABLES = ("wav.scp", "text", "transcript", "label", "utt2spk", "spk2utt", "spk2gender", "utt2dur", "utt2num_samples")
_NOTES = ("feats_type", "audio_format")
FIRST_PART = ("dump/raw/org/train/data/format.1[./]*",)
FIRST_PART_AND_TABLES = (
    *FIRST_PART,
    "dump/raw/org/train/.done",
    *(f"dump/raw/org/train/{name}" for name in (*_TABLES, *_NOTES)),
)
UNFORMATTED = ("dump/raw/org/train/wav.scp", "dump/raw/org/train/.done")


def sound(seconds: float = 1.0, rate: int = 16000, channels: int = 1, container: str = "WAV") -> bytes:
    """A file of noise."""
    shape = (round(seconds * rate), channels)
    stream = io.BytesIO()
    samples = 0.1 * np.random.default_rng(0).standard_normal(shape)
    soundfile.write(stream, samples, rate, format=container, subtype="PCM_16")
    return stream.getvalue()


def replace(recipe: Recipe, content: bytes, suffix: str = "wav") -> str:
    """Let the fifth training utterance be another file."""
    path = recipe.write(f"downloads/fault.{suffix}", content)
    recipe.set_line("data/train/wav.scp", LINE, f"{recipe.utts[LINE - 1]} {path.relative_to(recipe.path)}")
    return recipe.utts[LINE - 1]


def at(recipe: Recipe, what: str, line: int = LINE, table: str = "wav.scp") -> str:
    """A pattern for a message on a line of data/train."""
    return rf"^data/train/{re.escape(table)}:{line}: {re.escape(recipe.utts[line - 1])}: {what}"
