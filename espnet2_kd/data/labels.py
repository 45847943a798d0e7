"""Label sequences: those longer than what the encoder gives, which CTC cannot align, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.durations import durations
from espnet2_kd.data.progress import tracked
from espnet2_kd.data.table import write_table
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
    for utt in tracked(f"count labels of {data.path}", data.utts):
        ids = _ids(data, tokens, utt)
        needed = len(ids) + sum(a == b for a, b in pairwise(ids))
        # The tiny amount keeps 0.12 s / 40 ms from being 2.9999 frames.
        frames = int(seconds[utt] * 1000 / frame_ms + 1e-6)
        if needed > frames:
            found.append(LongLabel(utt, needed, frames))
    return found


def write_shapes(data: DataDir, tokens: TokenSet) -> None:
    """Write `speech_shape` and `text_shape.<token type>` into a formatted directory, as ESPnet2's statistics have them.

    The shape of a text is its number of labels and that of the vocabulary, by which ESPnet2's samplers count.
    """
    shapes = {
        utt: f"{len(_ids(data, tokens, utt))},{len(tokens.tokens)}"
        for utt in tracked(f"shapes of {data.path}", data.utts)
    }
    write_table(data.path / f"text_shape.{tokens.token_type}", shapes)
    write_table(data.path / "speech_shape", {utt: data.tables["utt2num_samples"][utt] for utt in data.utts})


def _ids(data: DataDir, tokens: TokenSet, utt: str) -> list[int]:
    return tokens.text2ids(" ".join(data.tables["text"][utt].split()))
