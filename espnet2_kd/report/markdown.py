"""Tables that read well as plain text and on GitHub alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay out a Markdown table with padded cells, the first `left` columns to the left and the others to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(width(row[i]) for row in cells)) for i in range(len(header))]
    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [_line(row, widths, left) for row in cells]
    return "\n".join([lines[0], "|" + "|".join(f" {mark} " for mark in rule) + "|", *lines[1:]])


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay out the same as bare columns for a terminal."""
    widths = [max(width(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(_pad(cell, w, i < left) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in (header, *rows)
    )


def _line(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    return (
        "| " + " | ".join(_pad(cell, w, i < left) for i, (cell, w) in enumerate(zip(row, widths, strict=True))) + " |"
    )


def _pad(cell: str, to: int, left: bool) -> str:
    space = " " * (to - width(cell))
    return cell + space if left else space + cell
