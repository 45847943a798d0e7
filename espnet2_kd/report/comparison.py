"""Every system beside the student that was not distilled: means over seeds, changes and their significance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from espnet2_kd.data.problems import one_problem
from espnet2_kd.report.experiments import ROLES, SetResult, System
from espnet2_kd.report.metric import CHARACTERS, WORDS, Metric, choose_metric
from espnet2_kd.report.significance import Errors, Interval, bootstrap_change, bootstrap_rate, mapsswe


@dataclass(frozen=True)
class Spread:
    """A number per seed, their mean and, from two seeds on, their standard deviation (n - 1)."""

    values: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values.values())

    @property
    def std(self) -> float | None:
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Change:
    """Relative change of the error rate against the base system, over the seeds that both have."""

    base: str
    seeds: tuple[int, ...]
    relative: Interval
    mapsswe_p: float
    mapsswe_z: float
    segments: int


@dataclass(frozen=True)
class Row:
    """One system on one test set; a role that nothing was trained for has a name of None and no values.

    interval, change: of the rate that the systems are compared by, the comparison's `metric`.
    """

    role: str
    name: str | None
    trained_seeds: tuple[int, ...] = ()
    wer: Spread | None = None
    cer: Spread | None = None
    ter: Spread | None = None
    interval: Interval | None = None
    num_parameters: int | None = None
    train_seconds: float | None = None
    mode: str | None = None
    first_token_from: str | None = None
    num_stream_utts: int | None = None
    speed: dict[str, Spread] | None = None
    change: Change | None = None
    dirty: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds with a score on the set."""
        return tuple(self.wer.values) if self.wer else ()

    def rate(self, metric: Metric) -> Spread | None:
        """Error rate in percent; None where the set was not scored."""
        return getattr(self, metric.key)


RATES = ("wer", "cer", "ter")
SPEED: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "rtf": lambda stream: stream.get("rtf"),
    "first_token_ms": lambda stream: (stream.get("first_token_ms") or {}).get("mean"),
    "first_token_ms_p90": lambda stream: (stream.get("first_token_ms") or {}).get("p90"),
    "emission_delay_ms": lambda stream: (stream.get("emission_delay_ms") or {}).get("mean"),
    "emission_delay_ms_p90": lambda stream: (stream.get("emission_delay_ms") or {}).get("p90"),
    "chunk_ms": lambda stream: stream.get("chunk_ms"),
}


@dataclass(frozen=True)
class Comparison:
    """The rows of one test set: all three roles, always.

    metric: what the systems are compared by; `num_units` of it, words or characters, are in the references.
    """

    test_set: str
    rows: tuple[Row, ...]
    base: str | None
    cluster: str | None
    num_utts: int | None
    num_units: int | None
    metric: Metric = WORDS

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with means beside the values per seed."""
        rows = [_row_to_dict(row) for row in self.rows]
        return {**asdict(self), "metric": self.metric.key, "rows": rows}

    @property
    def size(self) -> str:
        """How large the set is, to stand after its name; empty where nothing was scored."""
        return "" if self.num_utts is None else f": {self.num_utts} utterances, {self.num_units} {self.metric.units}"


def choose_base(systems: Sequence[System], name: str | None) -> System | None:
    """Pick the system that changes are measured from: the named one, else the first student; raises DataError."""
    if name is None:
        return next((system for system in systems if system.role == "student"), None)
    for system in systems:
        if system.name == name:
            return system
    names = ", ".join(system.name for system in systems)
    raise one_problem("--baseline", f"no system is called {name}", f"one of: {names}")


def compare(
    systems: Sequence[System],
    test_set: str,
    base: System | None,
    cluster: str | None = None,
    samples: int = 2000,
    metric: Metric | None = None,
) -> Comparison:
    """Compare `systems` on one set.

    cluster: what the bootstrap draws; None: speakers where there are many, else utterances.
    metric: None: characters where a language has no blanks between words and all systems have their rate, else words.
    """
    scored = next((scored for system in systems if (scored := system.scored(test_set))), {})
    metric = metric or (_choose_metric(systems, test_set) if scored else WORDS)
    first = _errors(scored, list(scored)[:1], metric) if scored else None
    if first is not None:
        cluster = cluster or first.cluster_kind()
    rows = []
    for role in ROLES:
        found = [system for system in systems if system.role == role]
        rows += [_row(system, test_set, base, metric, cluster, samples) for system in found] or [Row(role, None)]
    utts, units = (None, None) if first is None else (len(first.units), int(first.units.sum()))
    return Comparison(test_set, tuple(rows), base.name if base else None, cluster, utts, units, metric)


def _choose_metric(systems: Sequence[System], test_set: str) -> Metric:
    results = [result for system in systems for result in system.scored(test_set).values()]
    if any(result.rate(CHARACTERS.key) is None for result in results):
        return WORDS
    return choose_metric(results[0].folder)


def _row(system: System, test_set: str, base: System | None, metric: Metric, cluster: str | None, samples: int) -> Row:
    scored = system.scored(test_set)
    runs = [experiment.run for experiment in system.experiments]
    known: dict[str, Any] = {
        "trained_seeds": tuple(system.by_seed),
        "num_parameters": next((run["num_parameters"] for run in runs if run.get("num_parameters")), None),
        "train_seconds": statistics.fmean(times) if (times := [run["train_seconds"] for run in runs]) else None,
        "dirty": any(run.get("git_dirty") for run in runs),
    }
    if not scored:
        return Row(system.role, system.name, **known)
    streams = {seed: result.stream for seed, result in scored.items() if result.stream}
    return Row(
        system.role,
        system.name,
        **known,
        **{key: _spread(scored, key) for key in RATES},
        interval=bootstrap_rate(_errors(scored, list(scored), metric), cluster, samples) if cluster else None,
        mode=_first(streams, "mode"),
        first_token_from=_first(streams, "first_token_from"),
        num_stream_utts=_first(streams, "num_utts"),
        speed=_speed(streams),
        change=_change(system, test_set, base, metric, cluster, samples),
    )


def _spread(scored: dict[int, SetResult], metric: str) -> Spread | None:
    rates = {seed: result.rate(metric) for seed, result in scored.items()}
    known = {seed: rate for seed, rate in rates.items() if rate is not None}
    return Spread(known) if known else None


def _first(streams: dict[int, dict[str, Any]], key: str) -> Any:
    return next((stream[key] for stream in streams.values() if key in stream), None)


def _speed(streams: dict[int, dict[str, Any]]) -> dict[str, Spread]:
    found = {}
    for key, read in SPEED.items():
        values = {seed: value for seed, stream in streams.items() if (value := read(stream)) is not None}
        if values:
            found[key] = Spread(values)
    return found


def _errors(scored: dict[int, SetResult], seeds: Sequence[int], metric: Metric) -> Errors:
    return Errors.read([scored[seed].folder / metric.folder for seed in seeds])


def _change(
    system: System, test_set: str, base: System | None, metric: Metric, cluster: str | None, samples: int
) -> Change | None:
    if base is None or cluster is None or system is base:
        return None
    here, there = system.scored(test_set), base.scored(test_set)
    seeds = tuple(seed for seed in here if seed in there)
    if not seeds:
        return None
    folders = ({seed: scored[seed].folder / metric.folder for seed in seeds} for scored in (there, here))
    test = mapsswe(*folders)
    relative = bootstrap_change(_errors(there, seeds, metric), _errors(here, seeds, metric), cluster, samples)
    return Change(base.name, seeds, relative, test.p, test.z, test.segments)


def _row_to_dict(row: Row) -> dict[str, Any]:
    def plain(spread: Spread | None) -> dict[str, Any] | None:
        return spread and {"mean": spread.mean, "std": spread.std, "values": spread.values}

    fields = asdict(row)
    fields["interval"] = row.interval and _finite(row.interval)
    if row.change:
        fields["change"]["relative"] = _finite(row.change.relative)
    for key in RATES:
        fields[key] = plain(getattr(row, key))
    fields["speed"] = {key: plain(spread) for key, spread in (row.speed or {}).items()}
    return fields


def _finite(interval: Interval) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in asdict(interval).items()}
