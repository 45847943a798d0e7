"""Reference and recognised slots brought together by utterance id, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike

from espnet2_kd.data.intents import LabelLine, form_problems, parse_label
from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.report.pairs import Entry, read_entries, unmatched


@dataclass(frozen=True)
class SlotPair:
    """The slots of one utterance, value by name in the order of the tables: as they are and as they were recognised."""

    utt: str
    ref: dict[str, str]
    hyp: dict[str, str]

    @property
    def right(self) -> bool:
        """Whether every slot is."""
        return self.ref == self.hyp


def read_slot_pairs(ref: str | PathLike, hyp: str | PathLike) -> list[SlotPair]:
    """Read two tables `label` into pairs, sorted by the bytes of the ids.

    Raises DataError with every id that is missing, too many or doubled, every label of an unknown form and every one
    whose slots are not those of the reference's first line: what is left would not be a score of the set.
    """
    problems: list[Problem] = []
    refs = read_entries(ref, "reference", problems)
    hyps = read_entries(hyp, "hypothesis", problems)
    problems += form_problems([*_lines(ref, refs), *_lines(hyp, hyps)])
    if refs and hyps:
        problems += unmatched(ref, refs, hyp, hyps)
    if problems:
        raise DataError(problems)
    return [SlotPair(utt, _slots(refs[utt]), _slots(hyps[utt])) for utt in sorted(refs)]


def _lines(path: str | PathLike, entries: Mapping[str, Entry]) -> list[LabelLine]:
    return [LabelLine(str(path), entry.line, utt, entry.value) for utt, entry in entries.items()]


def _slots(entry: Entry) -> dict[str, str]:
    return parse_label(entry.value) or {}
