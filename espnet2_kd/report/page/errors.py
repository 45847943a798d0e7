"""What a recogniser gets wrong: which words, and in utterances of which length."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from espnet2_kd.report.page.alignment import Alignment

NUM_SHOWN = 15
NUM_BINS = 5


@dataclass(frozen=True)
class WordErrors:
    """The most frequent errors over all trainings of a system, each with how often it was made."""

    confused: list[tuple[str, str, int]]
    deleted: list[tuple[str, int]]
    inserted: list[tuple[str, int]]


@dataclass(frozen=True)
class LengthBin:
    """Utterances of `low` to `high` words: how many, and their errors in percent."""

    low: int
    high: int
    num_utts: int
    rate: float | None

    @property
    def label(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


def word_errors(alignments: Iterable[Alignment]) -> WordErrors:
    """Count substitutions, deletions and insertions; equally frequent ones are in the order of the alphabet."""
    counts = Counter(step for alignment in alignments for step in alignment.steps if step[0] != step[1])
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0][0]), str(item[0][1])))
    return WordErrors(
        [(ref, hyp, count) for (ref, hyp), count in ordered if ref is not None and hyp is not None][:NUM_SHOWN],
        [(ref, count) for (ref, hyp), count in ordered if ref is not None and hyp is None][:NUM_SHOWN],
        [(hyp, count) for (ref, hyp), count in ordered if ref is None and hyp is not None][:NUM_SHOWN],
    )


def length_edges(lens: Sequence[int]) -> list[int]:
    """Choose the lengths at which up to five bins of about as many utterances each begin."""
    known = sorted(length for length in lens if length)
    if not known:
        return []
    quantiles = np.quantile(known, np.arange(NUM_BINS) / NUM_BINS, method="higher")
    return sorted({int(edge) for edge in quantiles})


def errors_by_length(seeds: Sequence[Iterable[tuple[int, int, int]]], edges: Sequence[int]) -> list[LengthBin]:
    """Sum up trainings over bins that begin at `edges`; utterances without a word are in none.

    seeds: of every training (length, errors, how many there could be to be made) of each utterance.
    """
    totals, errors, lens = ([0] * len(edges) for _ in range(3))
    highest = list(edges)
    for utts in seeds:
        for length, wrong, total in utts:
            place = bisect_right(edges, length) - 1
            if place < 0 or not length:
                continue
            totals[place] += total
            errors[place] += wrong
            lens[place] += 1
            highest[place] = max(highest[place], length)
    return [
        LengthBin(low, high, lens[n] // max(1, len(seeds)), 100 * errors[n] / totals[n] if totals[n] else None)
        for n, (low, high) in enumerate(zip(edges, highest, strict=True))
    ]
