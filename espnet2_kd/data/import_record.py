"""What was imported into a folder of data directories: from which tables, and which directories they made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from espnet2_kd.data.table import replacing

SOURCES = ".sources"  # a path a line: stage 1 of a recipe compares their times
MADE = ".imported"  # a set, and the import that made it, with a tab between


def record_import(data: str | PathLike, tables: Sequence[str], part: str, sets: Sequence[str]) -> list[Path]:
    """Note that an import has made the directories `sets` of `data`, and remove those that it made before and now does not.

    Of a split that was renamed in a table, what was imported under its old name would be trained on without a word.

    Args:
        part: what of the tables was imported; another part of the same tables is another import.

    Returns:
        The directories removed.
    """
    data, paths = Path(data), sorted(str(Path(table).absolute()) for table in tables)
    this = "\t".join([*paths, part])
    before = [tuple(line.split("\t", 1)) for line in _lines(data / MADE)]
    kept = [(name, other) for name, other in before if other != this]
    stale = {name for name, other in before if other == this} - {name for name, _ in kept} - set(sets)
    gone = [data / name for name in sorted(stale) if (data / name).is_dir()]
    for folder in gone:
        shutil.rmtree(folder)
    _write(data / MADE, {f"{name}\t{other}" for name, other in [*kept, *((name, this) for name in sets)]})
    _write(data / SOURCES, {*_lines(data / SOURCES), *paths})
    return gone


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _write(path: Path, lines: set[str]) -> None:
    with replacing(path) as stream:
        stream.writelines(f"{line}\n" for line in sorted(lines))
