"""The gallery of recipes: what each hears, and what distillation bought, read from the generated results files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TASKS = {"asr1": "recognition", "slu1": "intents"}
NOT_RUN = "not run"
NONE_DISTILLED = "without distillation only"
DISTILLED_INTENTS = "speech, distilled"  # as reports of intents call such a system
PREFACE = """---
hide: [toc]
---

# Recipes

What distillation bought is read from each recipe's generated `RESULTS.md`: of recognisers the error rate without distillation, the one with it,
the relative change and its 95 % interval (WER: of words, CER: of characters, for languages that do not separate words); of intents the points of accuracy on the quiet set. Where a report holds several distilled systems, those with the most seeds are shown. An interval that includes
0 % says that other speakers or seeds might as well have shown nothing. *Synthetic* means that a program spoke the test sentences; such numbers say that a recipe works, not
how well it hears people. *Not run* means that the recipe has been tried end to end on a tiny corpus only.
"""


@dataclass(frozen=True)
class Recipe:
    """A directory of `egs2`."""

    path: str  # from the repository's root
    corpus: str
    task: str
    name: str
    speech: str

    @property
    def stem(self) -> str:
        """Of the names of its pages."""
        return f"{self.corpus}-{self.task}"

    def reports(self, root: Path) -> list[Path]:
        """Its generated results files, `RESULTS.md` first."""
        return sorted((root / self.path).glob("RESULTS*.md"))


@dataclass(frozen=True)
class Gain:
    """A distilled system beside the student without distillation, on one test set; cells of the report."""

    test_set: str
    system: str
    seeds: str
    synthetic: bool
    metric: str
    before: str
    after: str
    change: str
    interval: str


def find_recipes(root: Path) -> list[Recipe]:
    """All recipes with a README, by corpus; raises ValueError where a README has no heading `corpus: what it is`."""
    recipes = []
    for readme in sorted(root.glob("egs2/*/*/README.md")):
        corpus, task = readme.parent.parts[-2:]
        heading = readme.read_text(encoding="utf-8").splitlines()[0]
        if not heading.startswith("# ") or ": " not in heading:
            raise ValueError(f"{readme.relative_to(root)}:1: heading {heading!r}: write `# corpus: what it is`")
        name, speech = heading[2:].split(": ", 1)
        several = len(list(root.glob(f"egs2/{corpus}/*/README.md"))) > 1
        label = f"{name}, {TASKS.get(task, task)}" if several else name
        recipes.append(Recipe(readme.parent.relative_to(root).as_posix(), corpus, task, label, speech))
    return recipes


def read_tables(text: str) -> list[tuple[str, list[dict[str, str]]]]:
    """The tables of a Markdown text as (second-level heading above it, rows as `{column: cell}`)."""
    tables, heading, block = [], "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if len(block) > 2:
            tables.append((heading, [dict(zip(block[0], cells)) for cells in block[2:]]))
        block = []
        if line.startswith("## "):
            heading = line[3:]
    return tables


def read_gains(text: str) -> list[Gain]:
    """What a results file says of distilled systems with the most seeds, test set by test set."""
    gains = []
    for heading, rows in read_tables(text):
        metric = next((metric for metric in ("WER", "CER") if f"{metric} change" in rows[0]), None)
        if metric is None:
            continue
        rate, change = f"{metric} %", f"{metric} change"
        base = next((row for row in rows if row[change] == "base"), None)
        distilled = [row for row in rows if row["role"].startswith("distilled") and row[change] != "-"]
        if base is None or not distilled:
            continue
        most = max(_count(row["seeds"]) for row in distilled)
        gains += [
            Gain(
                re.split(r"[,:]", heading)[0],
                _name(row),
                row["seeds"],
                "synthetic" in heading,
                metric,
                base[rate],
                row[rate],
                row[change],
                row["95 % interval"],
            )
            for row in distilled
            if _count(row["seeds"]) == most
        ]
    return gains


def read_points(text: str) -> list[str]:
    """What a results file of intents says of distilled systems with the most seeds, in quiet, a line each."""
    tables = read_tables(text)
    roles = {_name(row): row["input"] for _, rows in tables if "input" in rows[0] for row in rows}
    lines = []
    for heading, rows in tables:
        if "points" not in rows[0]:
            continue
        quiet = re.split(r"[,:]", heading)[0]
        distilled = [row for row in rows if row["set"] == quiet and roles.get(_name(row)) == DISTILLED_INTENTS]
        most = max((_count(row["seeds"]) for row in distilled), default=0)
        lines += [
            f"`{_name(row)}`, {_made(quiet, row['seeds'], 'synthetic' in heading)}: "
            f"**{row['points']}** points of accuracy ({row['95 % interval']})"
            for row in distilled
            if _count(row["seeds"]) == most
        ]
    return lines


def gallery_rows(root: Path, recipes: Sequence[Recipe]) -> list[tuple[str, str, str, str]]:
    """Rows (recipe, task, speech, what distillation bought) of the gallery."""
    rows = []
    for recipe in recipes:
        lines = []
        for report in recipe.reports(root):
            text = report.read_text(encoding="utf-8")
            lines += [_line(gain) for gain in read_gains(text)] + read_points(text) or [NONE_DISTILLED]
            lines.append(f"[{report.stem}]({recipe.stem}-{report.stem.lower()}.md)")
        rows.append(
            (
                f"[{recipe.name}]({recipe.stem}.md)",
                TASKS.get(recipe.task, recipe.task),
                recipe.speech,
                "<br>".join(lines) or NOT_RUN,
            )
        )
    return rows


def gallery_page(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """The page as Markdown."""
    header = ["| recipe | task | what it is | what distillation bought |", "|---|---|---|---|"]
    table = [*header, *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([PREFACE, '<div class="gallery" markdown>', "", *table, "", "</div>"]) + "\n"


def _line(gain: Gain) -> str:
    made = _made(gain.test_set, gain.seeds, gain.synthetic)
    return f"`{gain.system}`, {made}: {gain.metric} {gain.before} → {gain.after} %, **{gain.change}** ({gain.interval})"


def _made(test_set: str, seeds: str, synthetic: bool) -> str:
    number = _count(seeds)
    return f"{test_set}{' (synthetic)' if synthetic else ''}, {number} {'seed' if number == 1 else 'seeds'}"


def _name(row: dict[str, str]) -> str:
    """The system of a row, without the mark of a checkout with changes."""
    return row["system"].removesuffix(" †")


def _count(seeds: str) -> int:
    """How many seeds a cell such as `1, 2, 3` names."""
    return len(seeds.split(","))
