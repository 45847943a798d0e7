"""A user's own speech, listed in a TSV file, as Kaldi data directories."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.ids import id_fault, with_speaker_prefix
from espnet2_kd.data.intents import LabelLine, form_problems, label_line, unseen_problems
from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.table import normalise_spaces
from espnet2_kd.data.tsv import TsvRow, read_tsv_rows

REQUIRED = ("utt_id", "speaker", "path")


@dataclass(frozen=True)
class ImportOptions:
    """Where audio paths start (default: the TSV's folder), columns to read, and how splits become set names.

    Each intent column is a slot of the label. `only` keeps these splits (all when empty); `rename` maps split to set;
    `default_set` names the set of rows without a split (default: the TSV's stem).
    """

    audio_root: str | None = None
    text_column: str = "text"
    intent_columns: tuple[str, ...] = ("intent",)
    only: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    default_set: str | None = None


@dataclass
class Utterance:
    """One utterance on its way into a data directory; `text` and `label` are None where the source has none."""

    row: TsvRow
    set: str
    utt: str
    spk: str
    path: str
    text: str | None = None
    label: dict[str, str] | None = None

    def label_line(self) -> LabelLine:
        """The label as a line of the table `label`, with its place in the source."""
        return LabelLine(self.row.file, self.row.line, _utt(self.row), label_line(self.label or {}))


def import_tsv(paths: Sequence[str | PathLike], data_root: str | PathLike, options: ImportOptions) -> list[DataDir]:
    """Write one data directory per split below `data_root`; raises DataError with every problem of every line.

    `text` holds the words; with intents, `label` holds `intent=VALUE` and `transcript` the words again.
    """
    problems: list[Problem] = []
    rows = [row for path in paths for row in read_tsv_rows(path, REQUIRED, problems)]
    splits = {row.cells.get("split", "") for row in rows}
    # What could not be read may have them.
    for name in sorted({*options.only, *options.rename} - splits) if not problems else ():
        what = f"no line has the split {name}; there are: {', '.join(sorted(filter(None, splits))) or 'none'}"
        problems.append(Problem(str(paths[0]), 0, "-", what, "correct --only, --rename or the column split"))
    problems += _odd_splits(rows, options)
    utterances = [utterance for row in rows if (utterance := to_utterance(row, options, problems)) is not None]
    return write_sets(utterances, data_root, problems)


def _odd_splits(rows: Sequence[TsvRow], options: ImportOptions) -> list[Problem]:
    """Lines whose split is left blank although the table has them, or is another's but for its case: nobody would read these sets."""
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    named = any(row.cells.get("split") for row in rows)
    for row in rows:
        split = row.cells.get("split")
        if options.only and split not in options.only:
            continue
        if split == "" and named and not options.default_set:
            problems.append(_problem(row, "no split", "write train, valid or test there, or give --set"))
        elif split and (other := seen.setdefault(split.lower(), split)) != split:
            problems.append(_problem(row, f"split {split}, and above it is {other}", "write them alike"))
    return problems


def to_utterance(row: TsvRow, options: ImportOptions, problems: list[Problem]) -> Utterance | None:
    """Read one line; None where the split is not wanted."""
    cells = row.cells
    split = cells.get("split", "")
    if options.only and split not in options.only:
        return None
    name = options.rename.get(split, split) if split else options.default_set or Path(row.file).stem
    path = source_path(row, options.audio_root)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long for any file
        problems.append(_problem(row, f"file not found: {path}", "correct the path, or give --audio_root"))
    label = {column: cells[column] for column in options.intent_columns if cells.get(column)}
    text = cells.get(options.text_column)
    text = normalise_spaces(text) if text is not None else None
    if not label:
        text = text or None  # with an intent, no words mean something: silence, or noise
    return Utterance(
        row,
        name,
        with_speaker_prefix(cells["utt_id"], cells["speaker"]),
        cells["speaker"],
        str(path),
        text,
        label or None,
    )


def source_path(row: TsvRow, audio_root: str | None) -> Path:
    """Give the audio file of a line, as seen from the working directory."""
    return Path(os.path.normpath(Path(audio_root or Path(row.file).parent) / row.cells["path"]))


def write_sets(utterances: Sequence[Utterance], data_root: str | PathLike, problems: list[Problem]) -> list[DataDir]:
    """Check ids and write one directory per set name; raises DataError, before writing, with `problems` and its own."""
    first: dict[str, Utterance] = {}
    sets: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        row = utterance.row
        for what, key in (("utt_id", utterance.utt), ("speaker", utterance.spk), ("split", utterance.set)):
            fault = id_fault(key)
            if fault:
                problems.append(_problem(row, f"unsafe {what} {key!r}, it {fault}", "use letters, digits, - and _"))
        other = first.setdefault(utterance.utt, utterance)
        if other is not utterance:
            where = f"line {other.row.line}" if other.row.file == row.file else f"{other.row.file}:{other.row.line}"
            problems.append(_problem(row, f"duplicate id, first in {where}", "give every utterance its own id"))
        sets.setdefault(utterance.set, []).append(utterance)
    for name, members in sets.items():
        for field_name, column in (("text", "text"), ("label", "intent")):
            without = [u for u in members if getattr(u, field_name) is None]
            if 0 < len(without) < len(members):
                problems += [
                    _problem(
                        u.row,
                        f"no {column}, but other lines of set {name} have one",
                        f"fill in {column}, or remove the line",
                    )
                    for u in without
                ]
    problems += form_problems(utterance.label_line() for utterance in utterances if utterance.label)
    if problems:
        raise DataError(problems)
    return [_write_set(Path(data_root) / name, members) for name, members in sorted(sets.items())]


def unseen_labels(utterances: Sequence[Utterance], train: str = "train") -> list[Problem]:
    """List the labels of other sets with a value that no utterance of set `train` has."""
    known = [utterance.label_line() for utterance in utterances if utterance.set == train]
    return unseen_problems(known, [utterance.label_line() for utterance in utterances if utterance.set != train])


def _write_set(path: Path, members: Sequence[Utterance]) -> DataDir:
    tables = {
        "wav.scp": {u.utt: u.path for u in members},
        "utt2spk": {u.utt: u.spk for u in members},
    }
    if members[0].text is not None:
        tables["text"] = {u.utt: u.text or "" for u in members}
    if members[0].label is not None:
        tables["label"] = {u.utt: label_line(u.label or {}) for u in members}
        if "text" in tables:
            tables["transcript"] = tables["text"]
    return DataDir(path, tables).write(path)


def _utt(row: TsvRow) -> str:
    return row.cells.get("utt_id") or row.cells.get("string_id") or "-"


def _problem(row: TsvRow, what: str, remedy: str) -> Problem:
    return Problem(row.file, row.line, _utt(row), what, remedy)
