"""References and hypotheses brought together by utterance id, or refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.table import normalise_spaces, read_rows


@dataclass(frozen=True)
class Pair:
    """What was said and what was recognised, for one utterance of one speaker."""

    utt: str
    speaker: str
    ref: str
    hyp: str


@dataclass(frozen=True)
class Entry:
    """What one id has in a table, and the line where it stands."""

    line: int
    value: str


def read_pairs(ref: str | PathLike, hyp: str | PathLike, utt2spk: str | PathLike) -> list[Pair]:
    """Read Kaldi text files into pairs, in the order of the reference.

    Texts are NFC and separated by single spaces, so that equal-looking texts are equal.
    Raises DataError with every missing, extra or doubled id: scores over different id sets are not scores of the set.
    """
    problems: list[Problem] = []
    refs = read_entries(ref, "reference", problems)
    hyps = read_entries(hyp, "hypothesis", problems)
    speakers = read_entries(utt2spk, "utt2spk", problems)
    if problems and not (refs and hyps and speakers):
        raise DataError(problems)
    problems += unmatched(ref, refs, hyp, hyps)
    for utt in _without(refs, speakers):
        remedy = f"add it, or give the utt2spk that belongs to {ref}"
        problems.append(Problem(str(utt2spk), 0, utt, "speaker is missing", remedy))
    if not problems and not any(entry.value for entry in refs.values()):
        problems.append(Problem(str(ref), 0, "-", "every reference is empty", "give the transcripts"))
    if problems:
        raise DataError(problems)
    return [Pair(utt, speakers[utt].value, entry.value, hyps[utt].value) for utt, entry in refs.items()]


def read_entries(path: str | PathLike, what: str, problems: list[Problem]) -> dict[str, Entry]:
    """Read a table by id, values NFC and with single spaces; adds empty files and doubled ids to `problems`."""
    if Path(path).is_file() and not Path(path).read_bytes().strip():
        remedy = "decode again" if what == "hypothesis" else "give the file of the set that is scored"
        problems.append(Problem(str(path), 0, "-", f"{what} file is empty", remedy))
        return {}
    table: dict[str, Entry] = {}
    for row in read_rows(path, problems):
        if row.key in table:
            first = table[row.key].line
            problems.append(
                Problem(str(path), row.line, row.key, f"id is already on line {first}", "keep one line for each id")
            )
            continue
        table[row.key] = Entry(row.line, normalise_spaces(unicodedata.normalize("NFC", row.value)))
    return table


def unmatched(
    ref: str | PathLike, refs: Mapping[str, Entry], hyp: str | PathLike, hyps: Mapping[str, Entry]
) -> list[Problem]:
    """List the utterances that only one of the two files has."""
    problems = []
    for utt in _without(refs, hyps):
        remedy = f"decode it again (its reference is {ref}:{refs[utt].line})"
        problems.append(Problem(str(hyp), 0, utt, "hypothesis is missing", remedy))
    for utt in _without(hyps, refs):
        remedy = "decode the set that is scored, or remove the line"
        problems.append(Problem(str(hyp), hyps[utt].line, utt, f"no such utterance in {ref}", remedy))
    return problems


def _without(ids: Iterable[str], others: Mapping[str, Entry]) -> list[str]:
    return [utt for utt in ids if utt not in others]
