"""The page of intent classifiers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet2_kd.data.table import read_rows
from espnet2_kd.report.experiments import SetResult, System
from espnet2_kd.report.intent_comparison import Comparison, Row, summarise
from espnet2_kd.report.intent_experiments import LABELS, RESULT, TEXT
from espnet2_kd.report.intent_pairs import SlotPair, read_slot_pairs
from espnet2_kd.report.intent_results import (
    ACCURACY_NOTE,
    CHANGE_NOTE,
    SLOT_NOTE,
    accuracy_table,
    by_noise,
    by_set,
    change_table,
    slot_table,
    system_table,
    to_dict,
)
from espnet2_kd.report.intent_score import confusions
from espnet2_kd.report.page import figures
from espnet2_kd.report.page.blocks import Block, Bullets, Figure, Heading, Matrix, Table, Text
from espnet2_kd.report.page.budget import Budget
from espnet2_kd.report.page.document import Page, as_json
from espnet2_kd.report.page.errors import errors_by_length, length_edges
from espnet2_kd.report.page.frame import Frame
from espnet2_kd.report.page.media import add_sound
from espnet2_kd.report.page.options import PageOptions
from espnet2_kd.report.page.selection import choose
from espnet2_kd.report.results import format_p

TEXTS = "utterances"
PROBABILITIES = "probability"
NUM_WORST = 15
SURE = (0.0, 0.5, 0.7, 0.9, 0.99)


@dataclass(frozen=True)
class Answers:
    """What one training answered on one set: pairs in the order of the ids, and how sure it was, by utterance and slot."""

    pairs: list[SlotPair]
    sure: dict[str, list[float]]


By = dict[str, dict[int, Answers]]


def intent_page(
    comparisons: Sequence[Comparison],
    systems: Sequence[System],
    missing: Sequence[Path],
    tag: str,
    title: str,
    synthetic: bool,
    options: PageOptions,
    recipe: Path = Path(),
) -> Page:
    """Put together what is known of classifiers; raises DataError for labels that cannot be read."""
    frame = Frame(systems, missing, options, recipe)
    order = frame.order
    answers = {one.condition.test_set: _read(systems, one) for one in comparisons}
    texts = {name: _texts(options.data_dirs.get(name)) for name in answers}
    sets = [_utterances(one, answers, texts, order, frame.budget, options) for one in comparisons]
    add_sound(frame.media, sets, options)
    return frame.page(
        "intent",
        title,
        synthetic,
        RESULT,
        summary=_summary(comparisons, systems, missing, order),
        errors=_errors(comparisons, answers, texts, order, sets),
        sets=sets,
        matrices=_matrices(answers, order),
        results=to_dict(comparisons, systems, missing, tag),
    )


def _summary(
    comparisons: Sequence[Comparison], systems: Sequence[System], missing: Sequence[Path], order: Mapping[str, int]
) -> list[Block]:
    summaries = [summarise(system) for system in systems]
    blocks: list[Block] = []
    for n, (clean, group) in enumerate(by_set(comparisons).items()):
        sizes = dict.fromkeys(comparison.num_utts for comparison in group if comparison.num_utts)
        size = f": {' or '.join(map(str, sizes))} utterances" if sizes else ""
        blocks.append(Heading(f"{clean}{size}"))
        quiet = [comparison for comparison in group if comparison.condition.noise is None]
        for comparison in quiet or group[:1]:
            blocks += [Text(text, strong=True) for row in comparison.rows if (text := _verdict(row, systems))]
        for m, (noise, part) in enumerate(by_noise(group).items()):
            name = clean if noise is None else f"{clean}, {noise} noise"
            if noise is not None:
                labels = [one.condition.label for one in part]
                spreads = {system: [one.row(system).accuracy for one in part] for system in order}
                title = f"Exact match by noise: {name}"
                blocks.append(figures.by_noise(labels, spreads, order, f"noise{n}_{m}", title, "exact match"))
            blocks += [Heading(name, 3), Table(*accuracy_table(part, 2, summaries))]
        blocks.append(Text(ACCURACY_NOTE))
        header, rows = change_table(group)
        if rows:
            base = group[0].base
            blocks += [Heading(f"{clean}, change against {base}", 3), Table(header, rows, left=2)]
            blocks.append(Text(CHANGE_NOTE.format(base=base)))
        header, rows = slot_table(group)
        if rows:
            blocks += [Heading(f"{clean}, slots", 3), Table(header, rows, left=2), Text(SLOT_NOTE)]
    blocks += [Heading("Systems"), Table(*system_table(summaries), left=2)]
    if missing:
        blocks += [Text("Asked for, but not run:", strong=True), Bullets([path.as_posix() for path in missing])]
    return blocks


def _verdict(row: Row, systems: Sequence[System]) -> str | None:
    """One sentence of a distilled system; a change is one only where seeds and utterances both say so."""
    change = row.change
    if change is None or next(system.role for system in systems if system.name == row.system) != "distilled":
        return None
    over = change.over_seeds
    seeds = f"seeds p {format_p(over.p)}" if over else "too few seeds to tell"
    sure = "" if over and over.p < 0.05 and change.p < 0.05 else "; that may be chance"
    against = f"{change.points:+.2f} points of exact match against {change.base}"
    return f"{row.system}: {against} ({seeds}, utterances p {format_p(change.p)}){sure}."


def _scored(system: System, comparison: Comparison) -> dict[int, SetResult]:
    """As the comparison has it: text has no noise."""
    if system.role == TEXT and comparison.condition.noise:
        return {}
    return system.scored(comparison.condition.test_set)


def _read(systems: Sequence[System], comparison: Comparison) -> By:
    found: By = {}
    for system in systems:
        for seed, result in _scored(system, comparison).items():
            # The reference may have been moved since; the scores are still good.
            if Path(result.score["reference"]["path"]).is_file():
                found.setdefault(system.name, {})[seed] = _read_answers(result)
    return found


def _read_answers(result: SetResult) -> Answers:
    pairs = read_slot_pairs(result.score["reference"]["path"], result.folder / LABELS)
    path = result.folder / PROBABILITIES
    sure = {}
    for row in read_rows(path, []) if path.is_file() else []:
        try:
            sure[row.key] = [float(word) for word in row.value.split()]
        except ValueError:
            continue
    slots = len(pairs[0].ref)
    return Answers(pairs, {utt: numbers for utt, numbers in sure.items() if len(numbers) == slots})


def _texts(data_dir: Path | None) -> dict[str, str]:
    path = data_dir and data_dir / "text"
    return {row.key: row.value for row in read_rows(path, [])} if path and path.is_file() else {}


def _utterances(
    comparison: Comparison,
    answers: Mapping[str, By],
    texts: Mapping[str, Mapping[str, str]],
    order: Mapping[str, int],
    budget: Budget,
    options: PageOptions,
) -> dict[str, Any]:
    """One set for the browser: of each system the first seed."""
    name = comparison.condition.test_set
    found = answers[name]
    shown = {system: next(iter(seeds)) for system, seeds in found.items()}
    firsts = {system: {pair.utt: pair for pair in found[system][seed].pairs} for system, seed in shown.items()}
    every = list(next(iter(firsts.values()), {}))
    wrong = {system: {utt: _num_wrong(pair) for utt, pair in first.items()} for system, first in firsts.items()}
    chosen = choose(list(wrong.values()), every, options.num_utts)
    budget.refuse(TEXTS, len(every) - len(chosen))
    utts = []
    for utt in chosen:
        text = texts[name].get(utt, "")
        one = {
            **{"id": utt, "text": text, "words": len(text.split()), "clip": None},
            "ref": list(next(iter(firsts.values()))[utt].ref.items()),
            "hyps": {
                order[system]: _hypothesis(first[utt], found[system][shown[system]].sure.get(utt))
                for system, first in firsts.items()
            },
            "errors": {order[system]: wrong[system][utt] for system in firsts},
        }
        if budget.take(TEXTS, len(as_json(one))):
            utts.append(one)
    return {
        **{"name": name, "unit": "slots", "total": len(every), "utts": utts},
        "seeds": {order[system]: seed for system, seed in shown.items()},
        "base": order.get(comparison.base) if comparison.base in firsts else None,
    }


def _num_wrong(pair: SlotPair) -> int:
    return sum(pair.hyp[slot] != value for slot, value in pair.ref.items())


def _hypothesis(pair: SlotPair, sure: Sequence[float] | None) -> list[list[Any]]:
    """Slot, value and probability."""
    return [[slot, pair.hyp[slot], sure[n] if sure else None] for n, slot in enumerate(pair.ref)]


def _matrices(answers: Mapping[str, By], order: Mapping[str, int]) -> list[dict[str, Any]]:
    """Of every set, system and slot the counts of (reference, hypothesis), all seeds together, values by their places."""
    found = []
    for name, by_system in answers.items():
        for system, seeds in by_system.items():
            for slot in next(iter(seeds.values())).pairs[0].ref:
                counts = _confusions(seeds, slot)
                values = sorted({value for pair in counts for value in pair})
                places = {value: n for n, value in enumerate(values)}
                triples = [[places[ref], places[hyp], count] for (ref, hyp), count in sorted(counts.items())]
                found.append({"set": name, "system": order[system], "slot": slot, "values": values, "counts": triples})
    return found


def _confusions(seeds: Mapping[int, Answers], slot: str) -> Counter[tuple[str, str]]:
    return sum((confusions(answers.pairs, slot) for answers in seeds.values()), Counter())


def _errors(
    comparisons: Sequence[Comparison],
    answers: Mapping[str, By],
    texts: Mapping[str, Mapping[str, str]],
    order: Mapping[str, int],
    sets: Sequence[Mapping[str, Any]],
) -> list[Block]:
    if not any(answers.values()):
        return [Text("No set was scored, or its reference labels are no longer where they were.", strong=True)]
    note = "Rows in percent of the utterances of that value, all seeds together."
    blocks: list[Block] = [Heading("What is taken for what"), Matrix("confusions", "Confusions", note)]
    for n, comparison in enumerate(comparisons):
        name = comparison.condition.test_set
        if not answers[name]:
            continue
        blocks.append(Heading(name))
        blocks += _most_confused(answers[name])
        if comparison.condition.noise is None:
            blocks += _by_length(name, answers[name], texts[name], order, n)
            blocks += _by_probability(name, answers[name], order, n)
        blocks += _worst(sets[n], order, n)
    return blocks


def _most_confused(found: By) -> list[Block]:
    rows = []
    for system, seeds in found.items():
        for slot in next(iter(seeds.values())).pairs[0].ref:
            counts = _confusions(seeds, slot)
            totals = Counter()
            for (ref, _), count in counts.items():
                totals[ref] += count
            rows += [
                (system, slot, ref, hyp, str(count), str(totals[ref]))
                for (ref, hyp), count in counts.items()
                if ref != hyp
            ]
    rows.sort(key=lambda row: (-int(row[4]), row))
    if not rows:
        return [Text("Nothing is taken for anything else.")]
    header = ("system", "slot", "is", "taken for", "times", "of")
    return [Table(header, rows[:NUM_WORST], left=4, caption="most frequent confusions, all seeds together")]


def _by_length(name: str, found: By, texts: Mapping[str, str], order: Mapping[str, int], place: int) -> list[Block]:
    lens = {utt: len(text.split()) for utt, text in texts.items()}
    edges = length_edges(list(lens.values()))
    if not edges:
        return []
    bins = {
        system: errors_by_length(
            [[(lens.get(pair.utt, 0), int(not pair.right), 1) for pair in one.pairs] for one in seeds.values()], edges
        )
        for system, seeds in found.items()
    }
    title = f"Utterances that are not all right, by length: {name}"
    return [figures.by_length(bins, order, f"length{place}", title, "words")]


def _by_probability(name: str, found: By, order: Mapping[str, int], place: int) -> list[Block]:
    """How often answers are right, by how sure the classifier was: a calibrated one is as right as it is sure."""
    labels = [f"{100 * low:g}–{100 * high:g} %" for low, high in zip(SURE, (*SURE[1:], 1.0), strict=True)]
    traces = []
    for system, seeds in found.items():
        right, total = [0] * len(SURE), [0] * len(SURE)
        for one in seeds.values():
            for pair in one.pairs:
                for slot, sure in zip(pair.ref, one.sure.get(pair.utt, ()), strict=False):
                    bin_ = max(n for n, low in enumerate(SURE) if sure >= low or n == 0)
                    total[bin_] += 1
                    right[bin_] += pair.ref[slot] == pair.hyp[slot]
        if any(total):
            traces.append(
                {
                    **{"type": "scatter", "mode": "lines+markers", "name": system, "system": order[system]},
                    **{"x": labels, "y": [100 * r / t if t else None for r, t in zip(right, total, strict=True)]},
                    "text": [f"{count} answers" for count in total],
                    "hovertemplate": "%{fullData.name}<br>%{x} sure, %{text}<br>%{y:.1f} % right<extra></extra>",
                }
            )
    if not traces:
        return []
    layout = {
        "xaxis": {"title": {"text": "probability given to the answer"}, "type": "category"},
        "yaxis": {"title": {"text": "answers that are right (%)"}},
        **{"showlegend": True, "height": 340},
    }
    return [Figure(f"sure{place}", f"How sure, and how right: {name}", traces, layout, "All seeds and slots together.")]


def _worst(one: Mapping[str, Any], order: Mapping[str, int], place: int) -> list[Block]:
    ranked = sorted(enumerate(one["utts"]), key=lambda item: -sum(item[1]["errors"].values()))
    worst = [(n, utt) for n, utt in ranked if sum(utt["errors"].values())][:NUM_WORST]
    if not worst:
        return []
    names = [name for name, n in order.items() if n in one["seeds"]]
    rows = [(utt["id"], *(str(utt["errors"][order[name]]) for name in names)) for _, utt in worst]
    links = [f"#utterances/{place}/{n}" for n, _ in worst]
    return [
        Heading(f"Worst utterances, {one['name']}", 3),
        Table(("utterance", *names), rows, links=links),
        Text("Wrong slots, of the first seed of each system."),
    ]
