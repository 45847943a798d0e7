"""Every intent classifier on every set beside the one that changes are measured from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from espnet2_kd.report.comparison import Spread
from espnet2_kd.report.experiments import SetResult, System
from espnet2_kd.report.intent_conditions import Condition
from espnet2_kd.report.intent_experiments import LABELS, TEXT
from espnet2_kd.report.intent_significance import Change, compare_seeds

SCORED, NOT_SCORED, NOT_RUN, NO_NOISE = "scored", "not scored", "not run", "no noise"


@dataclass(frozen=True)
class Row:
    """One system on one set, all numbers in percent.

    state: SCORED, NOT_SCORED (there are labels), NOT_RUN, or NO_NOISE for a text classifier where there is noise.
    accuracy: exact match by seed.
    slot_f1: by seed; None where no slot is ever present.
    slots: accuracy of each slot by seed.
    """

    system: str
    state: str
    accuracy: Spread | None = None
    slot_f1: Spread | None = None
    slots: dict[str, Spread] = field(default_factory=dict)
    change: Change | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.accuracy.values) if self.accuracy else ()


@dataclass(frozen=True)
class Comparison:
    """One set: a row per system, always all of them; sizes are None where no system was scored."""

    condition: Condition
    rows: tuple[Row, ...]
    base: str | None
    num_utts: int | None
    slots: tuple[str, ...]

    def row(self, system: str) -> Row:
        return next(row for row in self.rows if row.system == system)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with means beside the values per seed."""
        rows = [_row_to_dict(row) for row in self.rows]
        sizes = {"base": self.base, "num_utts": self.num_utts, "slots": self.slots}
        return {**asdict(self.condition), **sizes, "rows": rows}


@dataclass(frozen=True)
class Summary:
    """What is known of a system beside its scores: parameters are those of the first seed that tells."""

    system: str
    role: str
    seeds: tuple[int, ...]
    config: str | None
    num_parameters: int | None
    train_seconds: float | None
    dirty: bool


def compare(systems: Sequence[System], condition: Condition, base: System | None, tag: str) -> Comparison:
    """Compare `systems` on one set; `tag` is the folder of their labels."""
    results = [result for system in systems for result in _scored(system, condition).values()]
    slots = tuple(results[0].score["slots"]) if results else ()
    rows = tuple(_row(system, condition, base, tag, slots) for system in systems)
    return Comparison(
        condition, rows, base.name if base else None, results[0].score["num_utts"] if results else None, slots
    )


def summarise(system: System) -> Summary:
    """Collect what a report says of a system once."""
    runs = [experiment.run for experiment in system.experiments]
    times = [run["train_seconds"] for run in runs if run.get("train_seconds") is not None]
    return Summary(
        system.name,
        system.role,
        tuple(system.by_seed),
        next((run["config"] for run in runs if run.get("config")), None),
        next((run["num_parameters"] for run in runs if run.get("num_parameters")), None),
        statistics.fmean(times) if times else None,
        any(run.get("git_dirty") for run in runs),
    )


def _scored(system: System, condition: Condition) -> dict[int, SetResult]:
    """Results by seed; text has no noise, so that a noisy copy would only repeat the clean score."""
    return {} if system.role == TEXT and condition.noise else system.scored(condition.test_set)


def _row(system: System, condition: Condition, base: System | None, tag: str, slots: Sequence[str]) -> Row:
    scored = _scored(system, condition)
    if not scored:
        return Row(system.name, _state(system, condition, tag))
    f1 = {seed: rate for seed, result in scored.items() if (rate := result.score["slot_f1"]["f1"]) is not None}
    return Row(
        system.name,
        SCORED,
        _spread({seed: result.score["exact_match"]["rate"] for seed, result in scored.items()}),
        _spread(f1) if f1 else None,
        {
            slot: _spread({seed: result.score["slot_accuracy"][slot]["rate"] for seed, result in scored.items()})
            for slot in slots
        },
        _change(system, scored, base, condition),
    )


def _state(system: System, condition: Condition, tag: str) -> str:
    if system.role == TEXT and condition.noise:
        return NO_NOISE
    folders = [experiment.path / tag / condition.test_set for experiment in system.experiments]
    return NOT_SCORED if any((folder / LABELS).is_file() for folder in folders) else NOT_RUN


def _spread(rates: dict[int, float]) -> Spread:
    return Spread({seed: 100 * rate for seed, rate in rates.items()})


def _change(system: System, scored: dict[int, SetResult], base: System | None, condition: Condition) -> Change | None:
    if base is None or system is base:
        return None
    there, here = ({seed: _right(of[seed]) for seed in of} for of in (_scored(base, condition), scored))
    return compare_seeds(base.name, there, here)


def _right(result: SetResult) -> np.ndarray:
    """Whether each utterance is right (U,) bool, in the order of the ids, which is that of every result of the set."""
    return np.frombuffer(result.score["right"].encode(), dtype=np.uint8) == ord("1")


def _row_to_dict(row: Row) -> dict[str, Any]:
    return {
        **asdict(row),
        "accuracy": _plain(row.accuracy),
        "slot_f1": _plain(row.slot_f1),
        "slots": {slot: _plain(spread) for slot, spread in row.slots.items()},
    }


def _plain(spread: Spread | None) -> dict[str, Any] | None:
    return spread and {"mean": spread.mean, "std": spread.std, "values": spread.values}
