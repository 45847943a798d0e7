"""Kaldi tables: text files of lines `key value`, sorted by the bytes of the key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.scratch import scratch_file

# Everything that looks like a space, or like nothing, and is not the one separator Kaldi means.
ODD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff]")
_ODD_NAMES = {"\t": "tab", "\r": "CRLF line end", "\u00a0": "NBSP (U+00A0)", "\ufeff": "BOM (U+FEFF)"}
_SPACES = re.compile("[\\s\x00-\x1f\x7f-\xa0\u200b\ufeff]+")


@dataclass(frozen=True)
class Row:
    """One line of a table; `odd` names the characters in it that fix can normalise."""

    line: int
    key: str
    value: str
    odd: tuple[str, ...] = ()


def odd_names(line: str) -> tuple[str, ...]:
    """Name the odd characters of `line`, each once, in order of appearance."""
    found = dict.fromkeys(ODD.findall(line))
    return tuple(_ODD_NAMES.get(c, f"character U+{ord(c):04X}") for c in found)


def normalise_spaces(value: str) -> str:
    """Turn every run of odd characters and spaces into one space."""
    return _SPACES.sub(" ", value).strip()


def read_rows(path: str | PathLike, problems: list[Problem]) -> list[Row]:
    """Read `key value` lines leniently, adding what is wrong with the bytes to `problems`.

    Keys come back clean, so that one BOM does not also show up as a missing utterance.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.append(Problem(str(path), 0, "-", f"cannot be read ({error.strerror})", "make the file readable"))
        return []
    lines = data.split(b"\n")
    if lines[-1]:
        problems.append(
            Problem(
                str(path), len(lines), "-", "no newline at the end (cut off?)", "check the last line, add a newline"
            )
        )
    else:
        lines.pop()
    rows = (parse_line(path, number, raw, problems) for number, raw in enumerate(lines, 1))
    return [row for row in rows if row is not None]


def parse_line(path: str | PathLike, number: int, raw: bytes, problems: list[Problem]) -> Row | None:
    """Read line `number` of table `path`, without its end; None where it is empty."""
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.decode("utf-8", errors="replace")
        problems.append(
            Problem(str(path), number, "-", f"not UTF-8 at byte {error.start + 1}", "convert it: iconv -t UTF-8")
        )
    parts = _SPACES.split(line.strip(" \t\r\ufeff\u00a0"), maxsplit=1)
    key, value = parts[0], parts[1] if len(parts) == 2 else ""
    if not key:
        problems.append(Problem(str(path), number, "-", "empty line", "remove it"))
        return None
    return Row(number, key, value, odd_names(line))


def read_table(path: str | PathLike) -> dict[str, str]:
    """Read a table known to be clean as `{key: value}`; raises DataError naming every duplicate and odd line."""
    problems: list[Problem] = []
    table: dict[str, str] = {}
    for row in read_rows(path, problems):
        if row.key in table:
            problems.append(Problem(str(path), row.line, row.key, "duplicate id", "keep one line for each id"))
        table[row.key] = row.value
    if problems:
        raise DataError(problems)
    return table


@contextmanager
def replacing(path: str | PathLike, mode: str = "w"):
    """Open a temporary neighbour of `path` for writing and rename it to `path` when the block ends well."""
    with scratch_file(Path(path)) as temporary:
        with open(temporary, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": "\n"})) as stream:
            yield stream
        os.replace(temporary, path)


def write_table(path: str | PathLike, table: Mapping[str, str]) -> None:
    """Write `table` in LC_ALL=C order (code points sort as their UTF-8 bytes do), atomically."""
    with replacing(path) as stream:
        for key in sorted(table):
            stream.write(f"{key} {table[key]}\n" if table[key] else f"{key}\n")
