"""Tokens of a text that the token list does not hold, which training would silently turn into `<unk>`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.progress import tracked
from espnet2_kd.data.table import read_rows
from espnet2_kd.data.tokenizer import UNK, TokenSet


@dataclass(frozen=True)
class OovReport:
    """Unknown tokens of one text file: how many of how many, in how many lines, which, and where the first is."""

    file: str
    num_tokens: int
    num_lines: int
    counts: Counter[str]
    first_line: int
    first_utt: str

    @property
    def rate(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return sum(self.counts.values()) / max(self.num_tokens, 1)

    def __str__(self) -> str:
        head = f"{sum(self.counts.values())} of {self.num_tokens} tokens unknown ({100 * self.rate:.2f} %)"
        if not self.counts:
            return head
        top = " ".join(f"{token}:{count}" for token, count in self.counts.most_common(20))
        return f"{head} in {self.num_lines} utterance(s); most frequent: {top}"


def count_oov(tokens: TokenSet, file: str | PathLike) -> OovReport:
    """Count the tokens of a Kaldi text file that are not in `tokens`."""
    counts: Counter[str] = Counter()
    num_tokens = num_lines = first_line = 0
    first_utt = "-"
    for row in tracked(f"look for unknown tokens in {file}", read_rows(file, [])):
        pieces = tokens.tokenizer.text2tokens(" ".join(row.value.split()))
        unknown = [piece for piece in pieces if piece not in tokens or piece == UNK]
        num_tokens += len(pieces)
        counts.update(unknown)
        if unknown:
            num_lines += 1
            if not first_line:
                first_line, first_utt = row.line, row.key
    return OovReport(str(file), num_tokens, num_lines, counts, first_line, first_utt)


def check_oov(tokens: TokenSet, files: Sequence[str | PathLike], max_oov: float) -> list[OovReport]:
    """Report on every file; raises DataError for those whose share of unknown tokens is above `max_oov` (0 to 1)."""
    reports = [count_oov(tokens, file) for file in files]
    remedy = f"clean the text, train tokens on more text, or raise --max_oov (now {max_oov:g})"
    problems = [Problem(r.file, r.first_line, r.first_utt, str(r), remedy) for r in reports if r.rate > max_oov]
    if problems:
        raise DataError(problems)
    return reports
