"""The page of recognisers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet2_kd.data.documents import read_json
from espnet2_kd.data.problems import DataError
from espnet2_kd.report.comparison import Comparison, Row
from espnet2_kd.report.experiments import System
from espnet2_kd.report.intent_conditions import Condition, read_conditions
from espnet2_kd.report.metric import Metric
from espnet2_kd.report.page import figures
from espnet2_kd.report.page.alignment import Alignment, Step, read_alignments
from espnet2_kd.report.page.blocks import Block, Bullets, Details, Figure, Heading, Side, Table, Text
from espnet2_kd.report.page.budget import Budget
from espnet2_kd.report.page.document import Page, as_json
from espnet2_kd.report.page.emissions import read_emissions
from espnet2_kd.report.page.errors import errors_by_length, length_edges, word_errors
from espnet2_kd.report.page.frame import Frame
from espnet2_kd.report.page.media import add_sound
from espnet2_kd.report.page.options import PageOptions
from espnet2_kd.report.page.selection import choose
from espnet2_kd.report.results import (
    NONE,
    accuracy_notes,
    accuracy_table,
    cost_note,
    cost_table,
    format_p,
)

TEXTS = "utterances"
UNREADABLE = "utterances whose alignment cannot be read"
NUM_WORST = 15
By = dict[str, dict[int, dict[str, Alignment]]]


def asr_page(
    comparisons: Sequence[Comparison],
    systems: Sequence[System],
    missing: Sequence[Path],
    title: str,
    synthetic: bool,
    options: PageOptions,
    recipe: Path = Path(),
) -> Page:
    """Put together what is known of recognisers; raises DataError for scores that cannot be read."""
    frame = Frame(systems, missing, options, recipe)
    order, budget = frame.order, frame.budget
    sets, errors = [], []
    for comparison in comparisons:
        found = _read(comparison, systems)
        one = _utterances(comparison, systems, found, order, budget, options)
        sets.append(one)
        errors += _errors(comparison, found, order, one, len(sets) - 1)
    add_sound(frame.media, sets, options, _heard_first)
    noise = _noise(comparisons, order)
    return frame.page(
        "asr",
        title,
        synthetic,
        "score.json",
        summary=_summary(comparisons, missing, order, synthetic, recipe),
        errors=[*noise, *errors] or [Text("No set was scored.")],
        sets=sets,
        results=[comparison.to_dict() for comparison in comparisons],
    )


def _summary(
    comparisons: Sequence[Comparison], missing: Sequence[Path], order: Mapping[str, int], synthetic: bool, recipe: Path
) -> list[Block]:
    blocks: list[Block] = []
    for n, comparison in enumerate(comparisons):
        blocks.append(Heading(f"{comparison.test_set}{comparison.size}"))
        blocks += [Text(text, strong=True) for row in comparison.rows if (text := _verdict(row, comparison.metric))]
        drawn = [figures.rates(comparison, order, f"rates{n}"), figures.changes(comparison, order, f"changes{n}")]
        blocks += _beside(drawn)
        note, bullets = accuracy_notes(comparison)
        header, rows = accuracy_table(comparison, synthetic)
        blocks.append(Table(header, rows, left=2))
        blocks += [Text(note), *([Bullets(bullets)] if bullets else [])]
        drawn = [figures.latency(comparison, order, f"latency{n}"), figures.size(comparison, order, f"size{n}")]
        blocks += _beside(drawn)
        if comparison.num_utts is not None and drawn[0] is None:
            blocks.append(Text("No latency was measured on this set."))
        header, rows = cost_table(comparison, synthetic)
        blocks += [Table(header, rows, left=2), Text(cost_note(comparison))]
    if missing:
        blocks += [Text("Asked for, but not run:", strong=True), Bullets([path.as_posix() for path in missing])]
    return blocks + _contexts(recipe)


def _beside(drawn: Sequence[Figure | None]) -> list[Block]:
    shown = [figure for figure in drawn if figure]
    return [Side(shown)] if shown else []


def _verdict(row: Row, metric: Metric) -> str | None:
    """One sentence of a distilled system; a change is one only where both tests say so."""
    change = row.change
    if row.role != "distilled" or change is None or not math.isfinite(change.relative.value):
        return None
    relative = change.relative
    amount = f"{abs(100 * relative.value):.1f} % {'fewer' if relative.value < 0 else 'more'} {metric.unit} errors than"
    if amount.startswith("0.0 "):
        amount = f"as many {metric.unit} errors as"
    interval = f"95 % interval {100 * relative.low:+.1f} .. {100 * relative.high:+.1f} %"
    known = math.isfinite(relative.low) and not relative.low <= 0 <= relative.high and change.mapsswe_p < 0.05
    sure = "" if known else "; that may be chance"
    return f"{row.name}: {amount} {change.base} ({interval}, MAPSSWE p {format_p(change.mapsswe_p)}){sure}."


def _contexts(recipe: Path) -> list[Block]:
    """Charts of what espnet2_kd.bin.wer_latency has measured anywhere below exp."""
    blocks: list[Block] = []
    for n, path in enumerate(sorted((recipe / "exp").glob("**/wer_latency.json"))):
        where = path.parent.relative_to(recipe).as_posix()
        try:
            points = read_json(path)
            figure = figures.contexts(points, where, f"contexts{n}")
        except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
            blocks.append(Text(f"{where}/wer_latency.json cannot be read: {type(error).__name__}"))
            continue
        if figure:
            blocks += [*([] if blocks else [Heading("Other contexts")]), figure]
    return blocks


def _read(comparison: Comparison, systems: Sequence[System]) -> By:
    """Alignments by system and seed, of what the systems are compared by."""
    folder = comparison.metric.folder
    return {
        system.name: {seed: read_alignments(result.folder / folder) for seed, result in results.items()}
        for system in systems
        if (results := system.scored(comparison.test_set))
    }


def _utterances(
    comparison: Comparison,
    systems: Sequence[System],
    found: By,
    order: Mapping[str, int],
    budget: Budget,
    options: PageOptions,
) -> dict[str, Any]:
    """One set for the browser: of each system the first seed."""
    shown = {name: next(iter(seeds)) for name, seeds in found.items()}
    firsts = {name: found[name][seed] for name, seed in shown.items()}
    results = {system.name: system.scored(comparison.test_set) for system in systems}
    live = {name: read_emissions(results[name][seed].folder) for name, seed in shown.items()}
    every = [utt for utt in next(iter(firsts.values()), {}) if all(utt in first for first in firsts.values())]
    budget.refuse(UNREADABLE, (comparison.num_utts or 0) - len(every))
    errors = [{utt: one.counts.errors for utt, one in first.items()} for first in firsts.values()]
    liked = [utt for utt in every if any(utt in some for some in live.values())]
    chosen = choose(errors, every, options.num_utts, liked)
    budget.refuse(TEXTS, len(every) - len(chosen))
    utts = []
    for utt in chosen:
        example = next(iter(firsts.values()))[utt]
        shown_utt = {
            **{"id": utt, "speaker": example.speaker, "words": example.counts.words, "clip": None},
            "ref": example.reference,
            "hyps": {order[name]: [_pair(step) for step in first[utt].steps] for name, first in firsts.items()},
            "errors": {order[name]: first[utt].counts.errors for name, first in firsts.items()},
            "live": {order[name]: some[utt] for name, some in live.items() if utt in some},
        }
        if budget.take(TEXTS, len(as_json(shown_utt))):
            utts.append(shown_utt)
    return {
        **{"name": comparison.test_set, "unit": comparison.metric.units, "total": len(every), "utts": utts},
        "seeds": {order[name]: seed for name, seed in shown.items()},
        "base": order.get(comparison.base) if comparison.base in firsts else None,
    }


def _pair(step: Step) -> str | list[str | None]:
    """A word that is right stands for itself."""
    return step[0] if step[0] == step[1] else list(step)


def _heard_first(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The worst and those that were decoded live by turns: those are what one wants to hear and to see."""
    live = [utt for utt in one["utts"] if utt["live"]]
    rest = [utt for utt in one["utts"] if not utt["live"]]
    longest = max(len(live), len(rest))
    return [pool[n] for n in range(longest) for pool in (live, rest) if n < len(pool)]


def _errors(
    comparison: Comparison, found: By, order: Mapping[str, int], one: Mapping[str, Any], place: int
) -> list[Block]:
    blocks: list[Block] = [Heading(comparison.test_set)]
    if not found:
        return [*blocks, Text("Not scored.", strong=True)]
    lens = [alignment.counts.words for alignment in next(iter(next(iter(found.values())).values())).values()]
    edges = length_edges(lens)
    bins = {name: errors_by_length([_counts(seed) for seed in seeds.values()], edges) for name, seeds in found.items()}
    title = f"Errors by length, {comparison.test_set}"
    blocks.append(figures.by_length(bins, order, f"length{place}", title, comparison.metric.units))
    blocks += _worst(one, order, place)
    for name, seeds in found.items():
        errors = word_errors(alignment for alignments in seeds.values() for alignment in alignments.values())
        over = f" in {len(seeds)} trainings" if len(seeds) > 1 else ""
        tables = [
            Table(
                ("is", "taken for", "times"),
                [(ref, hyp, str(count)) for ref, hyp, count in errors.confused],
                2,
                "confused",
            ),
            Table(("left out", "times"), [(word, str(count)) for word, count in errors.deleted], 1, "deleted"),
            Table(("put in", "times"), [(word, str(count)) for word, count in errors.inserted], 1, "inserted"),
        ]
        kept = [table for table in tables if table.rows] or [Text("No errors.")]
        blocks.append(Details(f"{name}: most frequent errors{over}", kept))
    return blocks


def _counts(alignments: Mapping[str, Alignment]) -> list[tuple[int, int, int]]:
    every = [alignment.counts for alignment in alignments.values()]
    return [(counts.words, counts.errors, counts.words) for counts in every]


def _worst(one: Mapping[str, Any], order: Mapping[str, int], place: int) -> list[Block]:
    """The utterances with most errors of all systems together, as links into the browser."""
    ranked = sorted(enumerate(one["utts"]), key=lambda item: -sum(item[1]["errors"].values()))
    worst = [(n, utt) for n, utt in ranked if sum(utt["errors"].values())][:NUM_WORST]
    if not worst:
        return []
    names = [name for name, n in order.items() if n in one["seeds"]]
    rows = [
        (utt["id"], str(utt["words"]), *(str(utt["errors"].get(order[name], NONE)) for name in names))
        for _, utt in worst
    ]
    links = [f"#utterances/{place}/{n}" for n, _ in worst]
    return [
        Heading(f"Worst utterances, {one['name']}", 3),
        Table(("utterance", one["unit"], *names), rows, links=links),
        Text("Errors of the first seed of each system."),
    ]


def _noise(comparisons: Sequence[Comparison], order: Mapping[str, int]) -> list[Block]:
    """Charts over noise, where sets are noisy copies by their names."""
    by_name = {comparison.test_set: comparison for comparison in comparisons}
    conditions = read_conditions(list(by_name))
    blocks: list[Block] = []
    groups: dict[tuple[str, str], list[Condition]] = {}
    for condition in conditions:
        if condition.noise:
            groups.setdefault((condition.clean, condition.noise), []).append(condition)
    for n, ((clean, noise), noisy) in enumerate(groups.items()):
        quiet = [condition for condition in conditions if condition.test_set == clean]
        sets = [*quiet, *noisy]
        metric = by_name[sets[0].test_set].metric
        spreads = {
            name: [
                next((row.rate(metric) for row in by_name[one.test_set].rows if row.name == name), None) for one in sets
            ]
            for name in order
        }
        labels, title = [one.label for one in sets], f"Errors by noise: {clean}, {noise}"
        blocks.append(figures.by_noise(labels, spreads, order, f"noise{n}", title, metric.label))
    return blocks
