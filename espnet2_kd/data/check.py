"""Validation of a Kaldi data directory: every problem of every file in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from espnet2_kd.data.entry import audio_path, is_command
from espnet2_kd.data.ids import has_speaker_prefix, id_fault
from espnet2_kd.data.intents import LabelLine, form_problems
from espnet2_kd.data.problems import Problem
from espnet2_kd.data.table import Row, read_rows

_FIX = "python -m espnet2_kd.bin.data_dir fix"
_RESERVED = {"<s>", "</s>", "#0", "<blank>", "<sos/eos>"}
_WORD_TABLES = ("text", "transcript")
_NUMBER_TABLES = ("utt2dur", "utt2num_samples")
_UTT_TABLES = (*_WORD_TABLES, "label", "segments", "utt2spk", *_NUMBER_TABLES, "utt2uniq", "utt2lang")
_ALL = ("wav.scp", *_UTT_TABLES, "spk2utt", "spk2gender")


def check_data_dir(
    path: str | PathLike,
    *,
    need_text: bool = True,
    need_audio: bool = True,
    allow_empty_text: bool = False,
    allow_pipes: bool = False,
) -> list[Problem]:
    """List everything wrong with the directory `path`, file by file and line by line.

    `need_audio` looks for every audio file; entries of wav.scp are relative to the working directory, as in Kaldi.
    """
    path = Path(path)
    if not path.is_dir():
        return [Problem(str(path), 0, "-", "no such data directory", "give a directory, or run the data stage first")]
    problems: list[Problem] = []
    tables: dict[str, dict[str, Row]] = {}
    for name in _ALL:
        if (path / name).is_file():
            rows = read_rows(path / name, problems)
            problems += _check_lines(path, name, rows)
            tables[name] = _by_key(path / name, rows, problems)
    required = ["wav.scp", "utt2spk", "spk2utt", *(["text"] if need_text else [])]
    for name in required:
        if name not in tables:
            remedy = f"{_FIX} {path}" if name == "spk2utt" and "utt2spk" in tables else f"write {path / name}"
            problems.append(Problem(str(path / name), 0, "-", "file is missing", remedy))
        elif not tables[name]:
            problems.append(Problem(str(path / name), 0, "-", "file is empty", "write at least one line"))
    problems += _check_keys(path, tables)
    problems += _check_speakers(path, tables)
    problems += _check_segments(path, tables)
    for name in _WORD_TABLES:
        problems += _check_words(path / name, tables.get(name, {}), allow_empty_text)
    labels = tables.get("label", {})
    problems += form_problems(LabelLine(str(path / "label"), row.line, utt, row.value) for utt, row in labels.items())
    for name in _NUMBER_TABLES:
        problems += _check_numbers(path / name, tables.get(name, {}))
    problems += _check_audio_entries(path / "wav.scp", tables.get("wav.scp", {}), need_audio, allow_pipes)
    return problems


def _check_lines(path: Path, name: str, rows: Iterable[Row]) -> list[Problem]:
    file, problems, before = str(path / name), [], None
    for row in rows:
        fault = id_fault(row.key)
        if fault:
            problems.append(Problem(file, row.line, row.key, f"unsafe id, it {fault}", "rename it in every file"))
        for odd in row.odd:
            problems.append(Problem(file, row.line, row.key, f"{odd} in the line", f"{_FIX} --normalise {path}"))
        if not row.odd and name in (*_WORD_TABLES, "label") and ("  " in row.value or row.value.endswith(" ")):
            problems.append(
                Problem(file, row.line, row.key, "repeated or trailing spaces", f"{_FIX} --normalise {path}")
            )
        if before is not None and row.key < before:
            problems.append(
                Problem(
                    file,
                    row.line,
                    row.key,
                    "not in LC_ALL=C order",
                    f"LC_ALL=C sort -o {file} {file}, or: {_FIX} {path}",
                )
            )
        before = row.key
    unsorted = [p for p in problems if p.what == "not in LC_ALL=C order"]
    return [p for p in problems if p not in unsorted[1:]]


def _by_key(file: Path, rows: Iterable[Row], problems: list[Problem]) -> dict[str, Row]:
    table: dict[str, Row] = {}
    for row in rows:
        first = table.setdefault(row.key, row)
        if first is not row:
            same = "same" if first.value == row.value else "different"
            problems.append(
                Problem(
                    str(file),
                    row.line,
                    row.key,
                    f"duplicate id, lines {first.line} and {row.line} ({same} content)",
                    "remove one of the lines, or rename one of the ids in every file",
                )
            )
    return table


def _check_keys(path: Path, tables: dict[str, dict[str, Row]]) -> list[Problem]:
    problems: list[Problem] = []
    reference = "segments" if "segments" in tables else "wav.scp"
    if reference not in tables:
        return problems
    utts = tables[reference]
    for name in _UTT_TABLES:
        if name == reference or name not in tables:
            continue
        problems += _difference(path, (reference, utts), (name, tables[name]))
        problems += _difference(path, (name, tables[name]), (reference, utts))
    return problems


def _difference(path: Path, here: tuple[str, dict[str, Row]], there: tuple[str, dict[str, Row]]) -> list[Problem]:
    other = path / there[0]
    return [
        Problem(
            str(path / here[0]),
            row.line,
            key,
            f"in {path / here[0]} but not in {other}",
            f"add it to {other}, or drop it everywhere: {_FIX} {path}",
        )
        for key, row in here[1].items()
        if key not in there[1]
    ]


def _check_speakers(path: Path, tables: dict[str, dict[str, Row]]) -> list[Problem]:
    problems: list[Problem] = []
    utt2spk = tables.get("utt2spk", {})
    file = str(path / "utt2spk")
    loose = []
    for utt, row in utt2spk.items():
        fault = id_fault(row.value)
        if fault:
            problems.append(
                Problem(
                    file, row.line, utt, f"unsafe speaker id {row.value!r}, it {fault}", "give one plain speaker id"
                )
            )
        elif not has_speaker_prefix(utt, row.value) and not utt.startswith(row.value):
            loose.append(row)
    if loose:
        more = f" (and {len(loose) - 1} more)" if len(loose) > 1 else ""
        what = f"utterance id does not start with its speaker {loose[0].value!r}{more}"
        remedy = "harmless here; Kaldi's own tools want speaker-prefixed ids"
        problems.append(Problem(file, loose[0].line, loose[0].key, what, remedy, fatal=False))
    if "spk2utt" in tables and utt2spk:
        remedy = f"python -m espnet2_kd.bin.data_dir spk2utt {path}"
        inverse = {utt: row for row in tables["spk2utt"].values() for utt in row.value.split()}
        for utt, row in utt2spk.items():
            spk = inverse[utt].key if utt in inverse else None
            if spk != row.value:
                what = f"speaker {row.value} here, {spk or 'none'} in {path / 'spk2utt'}"
                problems.append(Problem(file, row.line, utt, what, remedy))
        for utt, row in inverse.items():
            if utt not in utt2spk:
                what = f"in {path / 'spk2utt'} but not in {file}"
                problems.append(Problem(str(path / "spk2utt"), row.line, utt, what, remedy))
    return problems


def _check_segments(path: Path, tables: dict[str, dict[str, Row]]) -> list[Problem]:
    if "segments" not in tables:
        return []
    problems: list[Problem] = []
    file = str(path / "segments")
    recordings = tables.get("wav.scp", {})
    for utt, row in tables["segments"].items():
        fields = row.value.split()
        times = [_number(field) for field in fields[1:]]
        if len(fields) != 3 or None in times:
            what = f"not 'utterance recording start end': {row.value!r}"
            problems.append(Problem(file, row.line, utt, what, "write times in seconds"))
            continue
        start, end = times
        if start < 0 or (end <= start and end != -1):
            what = f"ends at {end:g} s but starts at {start:g} s"
            problems.append(Problem(file, row.line, utt, what, "write start < end (or -1: to the end)"))
        if fields[0] not in recordings:
            what = f"recording {fields[0]} is not in {path / 'wav.scp'}"
            problems.append(Problem(file, row.line, utt, what, f"add the recording, or: {_FIX} {path}"))
    used = {row.value.split()[0] for row in tables["segments"].values() if row.value}
    for key, row in recordings.items():
        if key not in used:
            what = f"recording without a line in {file}"
            problems.append(
                Problem(str(path / "wav.scp"), row.line, key, what, f"harmless; {_FIX} {path} drops it", fatal=False)
            )
    return problems


def _check_words(file: Path, table: dict[str, Row], allow_empty: bool) -> list[Problem]:
    problems: list[Problem] = []
    for utt, row in table.items():
        if not row.value.strip():
            remedy = "write its words, or drop it: python -m espnet2_kd.bin.data_dir filter"
            problems.append(Problem(str(file), row.line, utt, "empty transcript", remedy, fatal=not allow_empty))
        reserved = sorted(_RESERVED.intersection(row.value.split()))
        if reserved:
            what = f"reserved symbol {' '.join(reserved)}"
            problems.append(Problem(str(file), row.line, utt, what, "remove it from the words"))
    return problems


def _check_numbers(file: Path, table: dict[str, Row]) -> list[Problem]:
    return [
        Problem(
            str(file), row.line, utt, f"not a number: {row.value!r}", "remove the file; it is derived from the audio"
        )
        for utt, row in table.items()
        if _number(row.value) is None
    ]


def _check_audio_entries(file: Path, table: dict[str, Row], need_audio: bool, allow_pipes: bool) -> list[Problem]:
    problems: list[Problem] = []
    for key, row in table.items():
        entry = row.value.strip()
        if not entry:
            problems.append(Problem(str(file), row.line, key, "no path", "write the path of the audio file"))
        elif is_command(entry):
            if not allow_pipes:
                remedy = "convert the audio to files, or allow commands: --allow_pipes true"
                problems.append(Problem(str(file), row.line, key, f"is a command, not a file: {entry}", remedy))
        elif need_audio and not audio_path(entry).is_file():
            remedy = f"correct the path (relative paths start at {Path.cwd()})"
            problems.append(Problem(str(file), row.line, key, f"file not found: {audio_path(entry)}", remedy))
    return problems


def _number(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
