"""The page of all names that may stand in a config, from the registrations in the sources; nothing is imported."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

# Registry -> heading, where its classes are, what its arguments are that the program gives, how a config names it.
KINDS = {
    "LOSSES": (
        "Losses",
        "espnet2_kd/kd/losses",
        "`loss: NAME`, `loss: {NAME: {keyword: value}}`, or a key of `losses`",
    ),
    "HEADS": (
        "Heads",
        "espnet2_kd/kd/heads",
        "`head: NAME` or `head: {NAME: {keyword: value}}`; without it, `identity`",
    ),
    "TEACHERS": (
        "Teachers",
        "espnet2_kd/kd/teachers",
        "`teacher: NAME` and `teacher_conf: {keyword: value}`, beside `kd_terms`",
    ),
    "MATCHES": (
        "Matches",
        "espnet2_kd/kd/match.py",
        "`match: NAME` in a term, where the student hears and the teacher reads",
    ),
    "SCHEDULES": (
        "Schedules",
        "espnet2_kd/kd/schedule.py",
        "`weight: {NAME: {keyword: value}}`; a plain number is `constant`",
    ),
}
GIVEN = ("self", "in_size", "teacher_size")  # by the program, never by a config
PREFACE = """# What can stand in a config

A config is a flat YAML file of ESPnet2 with up to three keys more: `teacher`, `teacher_conf` and `kd_terms`, a list of terms. A term has the keys

| key | | without it |
|---|---|---|
| `name` | goes into log names: `loss_kd_<name>` | |
| `student` | tap in the student | |
| `teacher` | tap in the teacher | the same path |
| `head` | trained between the student's tap and the loss, dropped afterwards | `identity` |
| `match` | how frames meet words | frames must agree |
| `loss` and `weight`, or `losses` | one loss, or several on one head, each with its `weight` | |
| `per` | `utterance` or `token`: what the losses are divided by | `utterance` |

[Concepts](concepts.md) says what these words mean. A name that is not on this page, or a keyword that is not, stops the program at its start; the message names the nearest ones.
"""


@dataclass(frozen=True)
class Named:
    """A class that a config can name; `keywords` are (name, type, default) with None for what is missing."""

    name: str
    module: str
    class_name: str
    doc: str
    keywords: tuple[tuple[str, str | None, str | None], ...]


def registered(root: Path, registry: str) -> list[Named]:
    """The classes that `@REGISTRY.add("name")` registers below the registry's place, in order of their names."""
    place = root / KINDS[registry][1]
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in (sorted(place.glob("*.py")) if place.is_dir() else [place])
    }
    classes = {node.name: node for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef)}
    found = []
    for path, tree in trees.items():
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        for node in tree.body:
            name = _registered_name(node, registry)
            if name is not None:
                doc = ast.get_docstring(node) or ""
                found.append(Named(name, module, node.name, doc, tuple(_keywords(node, classes))))
    return sorted(found, key=lambda named: named.name)


def config_page(root: Path) -> str:
    """The page as Markdown."""
    parts = [PREFACE]
    for registry, (heading, _, written) in KINDS.items():
        parts.append(f"## {heading}\n\n{written}.\n")
        for named in registered(root, registry):
            parts.append(f"### `{named.name}` {{ #{heading.lower()}-{named.name} }}\n")
            parts.append(_described(named))
    return "\n".join(parts)


def _described(named: Named) -> str:
    sentence, sections = _sections(named.doc)
    text = [sentence]
    if named.keywords:
        words = sections.pop("Args", {})
        text += ["", "| keyword | type | default | |", "|---|---|---|---|"]
        for name, kind, default in named.keywords:
            told = next((words[key] for key in words if name in key.replace(" ", "").split(",")), "")
            cells = (
                f"`{name}`",
                _code(kind),
                "needed" if default is None else _code(default),
                told.replace("|", "&#124;"),
            )
            text.append(f"| {' | '.join(cells)} |")
    text += [
        "",
        f"Source: [`{named.module}.{named.class_name}`](reference/kd.md#{named.module}.{named.class_name})",
        "",
    ]
    return "\n".join(text)


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _registered_name(node: ast.stmt, registry: str) -> str | None:
    if not isinstance(node, ast.ClassDef):
        return None
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == f"{registry}.add":
            return ast.literal_eval(call.args[0])
    return None


def _keywords(node: ast.ClassDef, classes: dict[str, ast.ClassDef]):
    """(name, type, default) of what a config may give; of the nearest base with an `__init__` where the class has none."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            arguments = [*part.args.args, *part.args.kwonlyargs]
            given = [
                *[None] * (len(part.args.args) - len(part.args.defaults)),
                *part.args.defaults,
                *part.args.kw_defaults,
            ]
            for argument, default in zip(arguments, given, strict=True):
                if argument.arg not in GIVEN:
                    kind = None if argument.annotation is None else ast.unparse(argument.annotation)
                    yield argument.arg, kind, None if default is None else ast.unparse(default)
            return
    for base in node.bases:
        if ast.unparse(base) in classes:
            yield from _keywords(classes[ast.unparse(base)], classes)
            return


def _sections(doc: str) -> tuple[str, dict[str, dict[str, str]]]:
    """A docstring's text, and its sections (`Args`, `Raises`) as `{section: {name: what it is}}`."""
    text: list[str] = []
    sections: dict[str, dict[str, str]] = {}
    section = name = None
    for line in doc.splitlines():
        if line.rstrip(":") in ("Args", "Raises", "Returns", "Attributes") and line.endswith(":"):
            section, name = line.rstrip(":"), None
            sections[section] = {}
        elif section and line.startswith("    "):
            if not line.startswith("     ") and ": " in line:
                name, _, what = line.strip().partition(": ")
                sections[section][name] = what
            elif name:
                sections[section][name] += " " + line.strip()
        elif line.strip() or not section:
            section = None
            text.append(line)
    return "\n".join(text).strip(), sections
