"""What a tab of the page is made of, from top to bottom; the template knows how each looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Heading:
    """A heading, of level 2 (a set) or 3."""

    text: str
    level: int = 2
    kind: str = "heading"


@dataclass(frozen=True)
class Text:
    """A paragraph; `strong` ones are what one should not miss."""

    text: str
    strong: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Table:
    """A table: the first `left` columns are words, the others numbers. `links` has the page's own address of each row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    caption: str = ""
    links: Sequence[str] = ()
    kind: str = "table"


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Figure:
    """A chart: traces and layout of Plotly; `name` is its own on the page.

    A trace says by `system` whose colour, line and marker it has: the page's theme decides on them.
    """

    name: str
    title: str
    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    note: str = ""
    kind: str = "figure"


@dataclass(frozen=True)
class Matrix:
    """A chart with menus, made by a program: what is taken for what."""

    name: str
    title: str
    note: str
    kind: str = "matrix"


@dataclass(frozen=True)
class Side:
    """Charts beside each other where the screen is wide enough."""

    blocks: Sequence[Any]
    kind: str = "side"


@dataclass(frozen=True)
class Details:
    """Blocks that are folded up until somebody asks for them."""

    title: str
    blocks: Sequence[Any]
    kind: str = "details"


Block = Heading | Text | Bullets | Table | Code | Figure | Matrix | Side | Details


def figures_in(blocks: Sequence[Block]) -> list[Figure]:
    """All charts of a tab, folded up or not."""
    found = []
    for block in blocks:
        if isinstance(block, Figure):
            found.append(block)
        elif isinstance(block, Side | Details):
            found += figures_in(block.blocks)
    return found
