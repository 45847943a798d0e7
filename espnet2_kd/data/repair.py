"""Repair of a data directory: order, keys that do not match, spk2utt, odd characters."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path

from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.data_dir import SPK_TABLES, UTT_TABLES, DataDir, utt2spk
from espnet2_kd.data.problems import Problem, one_problem, raise_if_fatal
from espnet2_kd.data.table import normalise_spaces, read_rows


def fix_data_dir(path: str | PathLike, *, normalise: bool = False, allow_pipes: bool = False) -> list[str]:
    """Sort every table, keep the utterances that all tables have, rebuild spk2utt; say what was dropped and why.

    With `normalise`, CRLF, BOM, NBSP, tabs and repeated spaces become single spaces. The old files go to
    `path/.backup`. Raises DataError, leaving the directory as it was, where only its owner can decide:
    missing files, different lines with one id, odd characters without `normalise`.
    """
    path = Path(path)
    if not path.is_dir():
        raise one_problem(path, "no such data directory", "give a data directory")
    problems: list[Problem] = []
    tables: dict[str, dict[str, str]] = {}
    for name in ("wav.scp", "spk2utt", *UTT_TABLES, *SPK_TABLES):
        if (path / name).is_file():
            tables[name] = _read(path / name, normalise, problems)
    if "utt2spk" not in tables and "spk2utt" in tables:
        tables["utt2spk"] = utt2spk(tables["spk2utt"])
    tables.pop("spk2utt", None)
    for name in ("wav.scp", "utt2spk"):
        if name not in tables:
            problems.append(Problem(str(path / name), 0, "-", "file is missing", f"write {path / name}"))
    raise_if_fatal(problems)
    report = _drop_unmatched(tables)
    if not tables["utt2spk"]:
        raise one_problem(path, "no utterance is in every file", "compare the ids of the files")
    left = DataDir.read_unchecked(path)
    left.tables = tables
    _back_up(path)
    left.only(left.utts).write(path)
    raise_if_fatal(
        check_data_dir(path, need_text=False, need_audio=False, allow_empty_text=True, allow_pipes=allow_pipes)
    )
    return report


def _read(file: Path, normalise: bool, problems: list[Problem]) -> dict[str, str]:
    found: list[Problem] = []
    rows = read_rows(file, found)
    problems += [p for p in found if "newline" not in p.what and "empty line" not in p.what]
    table: dict[str, str] = {}
    first_line: dict[str, int] = {}
    for row in rows:
        if row.odd and not normalise:
            what = f"{', '.join(row.odd)} in the line"
            problems.append(Problem(str(file), row.line, row.key, what, "add --normalise"))
        value = row.value
        if normalise:
            # A path may contain spaces of its own; the other tables are made of words.
            value = value.strip(" \t\r\ufeff\u00a0") if file.name == "wav.scp" else normalise_spaces(value)
        if table.setdefault(row.key, value) != value:
            what = f"duplicate id, lines {first_line[row.key]} and {row.line} differ"
            problems.append(Problem(str(file), row.line, row.key, what, "remove the wrong line"))
        first_line.setdefault(row.key, row.line)
    return table


def _drop_unmatched(tables: dict[str, dict[str, str]]) -> list[str]:
    """Cut the utterance tables of `tables` to their common keys, in place; say how many each table lost."""
    reference = "segments" if "segments" in tables else "wav.scp"
    if reference == "segments":
        recordings = tables["wav.scp"]
        tables["segments"] = {
            utt: value
            for utt, value in tables["segments"].items()
            if value.split()[:1] and value.split()[0] in recordings
        }
    names = [name for name in UTT_TABLES if name in tables]
    common = set(tables[reference])
    for name in names:
        common &= set(tables[name])
    report = []
    for name in dict.fromkeys([reference, *names]):
        lost = sorted(set(tables[name]) - common)
        if lost:
            missing = [other for other in dict.fromkeys([reference, *names]) if set(lost) - set(tables[other])]
            more = " ..." if len(lost) > 5 else ""
            report.append(f"{name}: dropped {len(lost)} not in {', '.join(missing)}: {' '.join(lost[:5])}{more}")
        tables[name] = {key: value for key, value in tables[name].items() if key in common}
    return report


def _back_up(path: Path) -> None:
    backup = path / ".backup"
    backup.mkdir(exist_ok=True)
    for name in ("wav.scp", "spk2utt", *UTT_TABLES, *SPK_TABLES):
        if (path / name).is_file():
            shutil.copy2(path / name, backup / name)
