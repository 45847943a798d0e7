"""Pages of reference: a room of the package each, from its docstrings, and the commands."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "espnet2_kd"
# Rooms in the order of the imports between them, from the top; `bin` has the page of commands.
ROOMS = ("live", "tasks", "slu", "asr", "kd", "layers", "ops", "data", "report", "jobs")


@dataclass(frozen=True)
class Room:
    """A folder of the package and its modules, each with what its docstring says first."""

    name: str
    doc: str
    modules: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        return f"{PACKAGE}.{self.name}"


def first_sentence(path: Path) -> str:
    """The first paragraph of a module's docstring, in one line."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"), str(path))) or ""
    return " ".join(doc.split("\n\n")[0].split())


def find_rooms(root: Path) -> list[Room]:
    """All rooms; raises ValueError where a folder of the package is in no list, so that none is forgotten."""
    folders = {path.parent.name for path in (root / PACKAGE).glob("*/__init__.py")} - {"bin"}
    if folders != set(ROOMS):
        raise ValueError(f"tools/docs/reference.py: ROOMS has {sorted(ROOMS)}, {PACKAGE} has {sorted(folders)}")
    rooms = []
    for name in ROOMS:
        place = root / PACKAGE / name
        modules = []
        for path in sorted(place.rglob("*.py")):
            dotted = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            if dotted != f"{PACKAGE}.{name}" and first_sentence(path):
                modules.append((dotted, first_sentence(path)))
        rooms.append(Room(name, first_sentence(place / "__init__.py"), tuple(modules)))
    return rooms


def room_page(room: Room) -> str:
    """The page as Markdown; mkdocstrings fills in what the modules hold."""
    lines = [f"# `{room.title}`", "", room.doc, "", "| module | |", "|---|---|"]
    lines += [f"| [`{name.removeprefix(room.title + '.')}`](#{name}) | {_cell(doc)} |" for name, doc in room.modules]
    for name, _ in room.modules:
        lines += ["", f"::: {name}"]
    return "\n".join(lines) + "\n"


def command_page(root: Path) -> str:
    """The page of commands as Markdown."""
    lines = [
        "# Commands",
        "",
        "`python3 -m espnet2_kd.bin.VERB --help` lists the options of a command in a second or two. Recipes call them; most are of use alone too.",
        "",
        "| verb | |",
        "|---|---|",
    ]
    for path in sorted((root / PACKAGE / "bin").glob("*.py")):
        if "def main(" in path.read_text(encoding="utf-8"):
            lines.append(f"| `{path.stem}` | {_cell(first_sentence(path))} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
