"""What a student writes: its label ids as strings, and the text that they spell."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.data.tokenizer import BLANK, SOS_EOS, SPACE, UNK
from espnet2_kd.kd.seq import length_mask

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
# At the ends, after another one, and between characters of a script that is written without.
_NEEDLESS_SPACES = re.compile(f"^ +| +$|(?<= ) +|(?<=[{_CJK}]) +(?=[{_CJK}])")


class Units:
    """A student's vocabulary. Its kind shows in its tokens: sentencepiece, characters, words, or word pieces with `##`.

    Args:
        token_list: ESPnet2's list, in the order of the ids.

    Attributes:
        plain: the tokens that are neither special nor the space.
        marked: they look like the pieces of a language model's own tokenizer.
        byte_level: they are pieces of bytes, in GPT-2's alphabet.
    """

    def __init__(self, token_list: Sequence[str]) -> None:
        self.tokens = list(token_list)
        self.eos = self.tokens.index(SOS_EOS) if SOS_EOS in self.tokens else len(self.tokens) - 1
        self.plain = [token for token in self.tokens if token not in (BLANK, UNK, SOS_EOS, SPACE)]
        symbols = re.compile(r"<.*>|\[.*\]")
        self.sentencepiece = any("▁" in token for token in self.plain)
        self.word_pieces = any(re.match("##.", token) for token in self.plain)
        spaced = sum(token.startswith("Ġ") for token in self.plain)
        self.marked = self.word_pieces or spaced > 0
        # A share: words of some languages begin with that letter too.
        self.byte_level = 5 * spaced > len(self.plain)
        self.characters = SPACE in self.tokens or all(
            len(token) == 1 for token in self.plain if not symbols.fullmatch(token)
        )

    def strings(self, batch: dict[str, Any]) -> list[list[str]]:
        """The units of each utterance of `text` `(B, N)` with `text_lengths` `(B,)`, padded with anything."""
        rows = zip(batch["text"].tolist(), batch["text_lengths"].tolist(), strict=True)
        return [[self.tokens[label] for label in row[:num]] for row, num in rows]

    def labels(self, batch: dict[str, Any], eos: bool) -> tuple[Tensor, Tensor]:
        """Label ids `(B, N)`, or `(B, N + 1)` with the end of the sentence, -1 beyond, and their numbers `(B,)`."""
        lens = batch["text_lengths"]
        num = int(lens.max())
        labels = batch["text"][:, :num].masked_fill(~length_mask(lens, num), -1)
        if not eos:
            return labels, lens
        return F.pad(labels, (0, 1), value=-1).scatter(1, lens[:, None], self.eos), lens + 1

    def write(self, units: Sequence[str], unk: str = UNK, lowercase: bool = False) -> tuple[str, list[tuple[int, int]]]:
        """The text and of each unit its span `(start, end)` in it, empty for a mere space.

        Args:
            units: of one utterance.
            unk: stands for what the student does not know.
            lowercase: write small letters; a unit may change its length by it, so spans are those of the result.
        """
        text, spans = "", []
        for unit in units:
            written = unk if unit == UNK else unit.lower() if lowercase else unit
            if self.sentencepiece:
                written = written.replace("▁", " ")
            elif self.word_pieces and re.match("##.", unit):
                written = written[2:]
            elif self.characters:
                written = " " if unit == SPACE else written
            else:
                written = f" {written}"
            bare = written.strip(" ")
            start = len(text) + written.index(bare)
            spans.append((start, start + len(bare)))
            text += written
        needless = {i for match in _NEEDLESS_SPACES.finditer(text) for i in range(*match.span())}
        kept = list(accumulate((i not in needless for i in range(len(text))), initial=0))
        text = "".join(char for i, char in enumerate(text) if i not in needless)
        return text, [(kept[start], kept[end]) for start, end in spans]


def text_key(units: Sequence[str]) -> str:
    """What features of a text are kept under: the same for every utterance that is written so."""
    return hashlib.sha256("\n".join(units).encode()).hexdigest()[:32]
