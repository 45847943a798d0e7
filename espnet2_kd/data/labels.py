"""Utterances whose label sequence is longer than what the encoder gives, which CTC cannot align."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.durations import durations
from espnet2_kd.data.tokenizer import TokenSet


@dataclass(frozen=True)
class LongLabel:
    """An utterance, the frames its labels need and the frames it has."""

    utt: str
    needed: int
    frames: int


def long_labels(data: DataDir, tokens: TokenSet, frame_ms: float) -> list[LongLabel]:
    """List utterances with more labels than encoder frames of `frame_ms` each.

    Two equal neighbours need one frame more, the blank between them (Graves et al. 2006, section 3.1).
    """
    seconds = durations(data)
    found = []
    for utt in data.utts:
        ids = tokens.text2ids(" ".join(data.tables["text"][utt].split()))
        needed = len(ids) + sum(a == b for a, b in pairwise(ids))
        # The tiny amount keeps 0.12 s / 40 ms from being 2.9999 frames.
        frames = int(seconds[utt] * 1000 / frame_ms + 1e-6)
        if needed > frames:
            found.append(LongLabel(utt, needed, frames))
    return found
