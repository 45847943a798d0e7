"""Tab-separated tables with a header line, as spreadsheets and corpora give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from espnet2_kd.data.problems import DataError, Problem


@dataclass(frozen=True)
class TsvRow:
    """One line of `file` as `{column: cell}`."""

    file: str
    line: int
    cells: dict[str, str]


def read_tsv(path: str | PathLike, required: Sequence[str] = ()) -> list[TsvRow]:
    """Read a TSV file without quoting rules; raises DataError naming every missing column and every uneven line."""
    problems: list[Problem] = []
    rows = read_tsv_rows(path, required, problems)
    if problems:
        raise DataError(problems)
    return rows


def read_tsv_rows(path: str | PathLike, required: Sequence[str], problems: list[Problem]) -> list[TsvRow]:
    """Add to `problems` what `read_tsv` would raise, and give the lines that can be read; none where columns are missing."""
    path = Path(path)
    try:
        content = path.read_bytes()
        lines = content.decode().removeprefix("\ufeff").split("\n")
    except OSError as error:
        problems.append(Problem(str(path), 0, "-", f"cannot be read ({error.strerror})", "give a TSV file"))
        return []
    except UnicodeDecodeError as error:
        begin = content.rfind(b"\n", 0, error.start) + 1
        first = content[begin : error.start].split(b"\t")[0].decode()
        what = f"not UTF-8 at byte {error.start - begin + 1} of the line"
        problems.append(
            Problem(str(path), content.count(b"\n", 0, begin) + 1, first or "-", what, "convert it: iconv -t UTF-8")
        )
        return []
    columns = [column.strip() for column in lines[0].rstrip("\r").split("\t")]
    missing = [column for column in required if column not in columns]
    before = len(problems)
    if missing:
        what = f"header has no column {', '.join(missing)} (it has {', '.join(columns)})"
        problems.append(Problem(str(path), 1, "-", what, "write a header line with these names, tab-separated"))
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        problems.append(Problem(str(path), 1, "-", f"column {', '.join(twice)} twice", "give each column its own name"))
    rows = []
    for number, line in enumerate(lines[1:], 2):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(columns):
            what = f"{len(cells)} cells, the header has {len(columns)}"
            problems.append(Problem(str(path), number, cells[0], what, "write one tab between cells, none inside them"))
            continue
        rows.append(TsvRow(str(path), number, dict(zip(columns, (cell.strip() for cell in cells)))))
    if not rows and len(problems) == before:
        problems.append(Problem(str(path), 0, "-", "no lines below the header", "write one line per utterance"))
    return [] if missing else rows
