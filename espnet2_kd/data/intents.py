"""The table `label` of intent corpora: `utt name=value name=value ...`, the same names in the same order in every line; its classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from espnet2_kd.data.problems import Problem
from espnet2_kd.data.table import read_rows
from espnet2_kd.data.tokenizer import UNK

_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=([^\s=]+)")
_FORM = "write name=value for each slot, as intent=flight, with _ for blanks in a value"


@dataclass(frozen=True)
class LabelLine:
    """The label of one utterance, and the line of a file where it was read."""

    file: str
    line: int
    utt: str
    value: str


def label_value(value: str) -> str:
    """Return a slot's value as it stands in a label: without blanks."""
    return "_".join(value.split())


def label_line(slots: Mapping[str, str]) -> str:
    """Return `name=value name=value ...` in the order of `slots`."""
    return " ".join(f"{name}={label_value(value)}" for name, value in slots.items())


def parse_label(value: str) -> dict[str, str] | None:
    """Return the slots of a label by name; None where it has no such form, or a name twice."""
    pairs = [_PAIR.fullmatch(part) for part in value.split()]
    if not pairs or None in pairs:
        return None
    slots = dict(pair.groups() for pair in pairs)
    return slots if len(slots) == len(pairs) else None


def form_problems(lines: Iterable[LabelLine]) -> list[Problem]:
    """List labels of an unknown form, and those whose names, or their order, are not those of the first good line."""
    problems = []
    first: tuple[LabelLine, list[str]] | None = None
    for line in lines:
        slots = parse_label(line.value)
        if slots is None:
            what = f"label is not name=value ...: {line.value!r}"
            problems.append(Problem(line.file, line.line, line.utt, what, _FORM))
        elif first is None:
            first = line, list(slots)
        elif list(slots) != first[1]:
            where = f"line {first[0].line}" if first[0].file == line.file else f"{first[0].file}:{first[0].line}"
            what = f"label names {' '.join(slots)}, but {' '.join(first[1])} in {where}"
            problems.append(Problem(line.file, line.line, line.utt, what, "name the same slots in the same order"))
    return problems


def unseen_problems(train: Iterable[LabelLine], others: Iterable[LabelLine]) -> list[Problem]:
    """List the values of other sets that no utterance of the training set has; labels of no known form are passed over."""
    seen = {pair for line in train for pair in (parse_label(line.value) or {}).items()}
    remedy = "correct it, drop the utterance, or add training utterances of this value"
    return [
        Problem(line.file, line.line, line.utt, f"{name}={value} never occurs in the training set", remedy)
        for line in others
        for name, value in (parse_label(line.value) or {}).items()
        if (name, value) not in seen
    ]


def label_lines(path: str | PathLike, problems: list[Problem]) -> list[LabelLine]:
    """Read the table `label` of a data directory, adding what is wrong with its bytes."""
    file = Path(path) / "label"
    return [LabelLine(str(file), row.line, row.key, row.value) for row in read_rows(file, problems)]


def check_label_sets(train: str | PathLike, others: Sequence[str | PathLike]) -> list[Problem]:
    """List what is wrong with the labels of a training set and the sets that its model is to label."""
    problems: list[Problem] = []
    known = label_lines(train, problems)
    if not known and not problems:
        problems.append(
            Problem(str(Path(train) / "label"), 0, "-", "has no labels", "write utt name=value ... in every line")
        )
    seen: dict[str, int] = {}
    for line in known:
        if (first := seen.setdefault(line.utt, line.line)) != line.line:
            problems.append(
                Problem(line.file, line.line, line.utt, f"is in line {first} too", "keep one label of each utterance")
            )
    asked = [line for other in others for line in label_lines(other, problems)]
    return problems + form_problems([*known, *asked]) + unseen_problems(known, asked)


def label_classes(train: str | PathLike) -> list[str]:
    """All `name=value` of a training set whose labels were checked, slot by slot, the values of a slot in byte order."""
    slots: dict[str, set[str]] = {}
    for line in label_lines(train, []):
        for name, value in (parse_label(line.value) or {}).items():
            slots.setdefault(name, set()).add(value)
    return [f"{name}={value}" for name, values in slots.items() for value in sorted(values)]


def slots_of(token_list: Sequence[str]) -> dict[str, list[int]]:
    """Slot -> ids of its classes, of a list of ``slot=value`` with ``<unk>`` at the end; raises ValueError for other names."""
    slots: dict[str, list[int]] = {}
    for number, token in enumerate(token_list):
        if token == UNK:
            continue
        slot, equals, value = token.partition("=")
        if not (slot and equals and value):
            raise ValueError(f"label {token!r}: classes are named slot=value, such as intent=play_music")
        slots.setdefault(slot, []).append(number)
    return slots
