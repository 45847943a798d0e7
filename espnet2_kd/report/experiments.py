"""What was trained and how it scored, read from experiment directories."""

from __future__ import annotations

import glob
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from espnet2_kd.data.documents import NUMBER, read_json
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.report.sclite import COUNTS

ROLES = ("teacher", "student", "distilled")
_RUN = {
    **{"name": str, "role": str, "seed": int, "command": str, "train_seconds": NUMBER, "num_parameters?": int},
    **{
        "versions?": dict.fromkeys(("python?", "espnet?", "torch?"), str),
        "machine?": {"cpu?": str, "cores?": int, "gpu?": str},
    },
    **{"git_hash?": str, "git_date?": str, "git_dirty?": bool},
}
_RATES = {"snt": int, "wrd": int, **dict.fromkeys(COUNTS, NUMBER), "counts": dict.fromkeys(COUNTS, int)}
_SCORE = {"wer": _RATES, "cer?": _RATES, "ter?": _RATES}
_DELAY = {"mean": NUMBER, "p90?": NUMBER}
_STREAM = {
    **{"mode?": str, "first_token_from?": str, "num_utts?": int, "rtf?": NUMBER, "chunk_ms?": NUMBER},
    **{"first_token_ms?": _DELAY, "emission_delay_ms?": _DELAY},
}


@dataclass(frozen=True)
class SetResult:
    """One experiment on one test set: `score.json`, and `stream.json` where streaming was measured."""

    folder: Path
    score: dict[str, Any]
    stream: dict[str, Any] | None

    def rate(self, metric: str) -> float | None:
        """Error rate in percent, from sclite's counts (sclite prints one decimal only)."""
        if not self.score.get(metric):
            return None
        row = self.score[metric]
        return 100 * row["counts"]["err"] / row["wrd"]


@dataclass(frozen=True)
class Experiment:
    """One training: its `run.json` and its results by test set."""

    path: Path
    run: dict[str, Any]
    results: dict[str, SetResult] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return self.run["seed"]


@dataclass(frozen=True)
class System:
    """The trainings of one config, one per seed."""

    name: str
    role: str
    experiments: tuple[Experiment, ...]

    @cached_property
    def by_seed(self) -> dict[int, Experiment]:
        return {experiment.seed: experiment for experiment in self.experiments}

    def scored(self, test_set: str) -> dict[int, SetResult]:
        """Results on a set by seed, for the seeds that have one."""
        return {seed: run.results[test_set] for seed, run in self.by_seed.items() if test_set in run.results}


def find_experiments(patterns: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Find the directories with a `run.json`, and those named outright that have none: they were not run.

    What a glob finds without one is passed over: `exp/asr_*` also matches the statistics.
    """
    found, missing = set(), []
    for pattern in patterns:
        paths = [Path(path) for path in glob.glob(pattern)]
        found |= {path for path in paths if (path / "run.json").is_file()}
        if not glob.has_magic(pattern) and Path(pattern) not in found:
            missing.append(Path(pattern))
    return sorted(found), missing


def read_systems(paths: Sequence[Path], inference_tag: str, test_sets: Sequence[str]) -> list[System]:
    """Read experiments and group them by config: teachers first, then students, then distilled students.

    Raises DataError for a seed that occurs twice and for systems scored on different versions of a set.
    """
    problems: list[Problem] = []
    groups: dict[tuple[str, str], dict[int, Experiment]] = {}
    for path in paths:
        run = read_json(path / "run.json", _RUN)
        if run["role"] not in ROLES or run["seed"] < 0:
            what = f"role {run['role']!r:.50} or seed {run['seed']} cannot be"
            raise one_problem(path / "run.json", what, "train again, or report the other experiments")
        results = {name: _read_result(path / inference_tag / name) for name in test_sets}
        experiment = Experiment(path, run, {name: result for name, result in results.items() if result})
        seeds = groups.setdefault((run["role"], run["name"]), {})
        if run["seed"] in seeds:
            what = f"seed {run['seed']} of {run['name']} is also {seeds[run['seed']].path}"
            problems.append(Problem(str(path / "run.json"), 0, "-", what, "report one of the two"))
        seeds[run["seed"]] = experiment
    problems += _different_sets([run for seeds in groups.values() for run in seeds.values()], test_sets)
    if problems:
        raise DataError(problems)
    systems = [
        System(name, role, tuple(seeds[seed] for seed in sorted(seeds))) for (role, name), seeds in groups.items()
    ]
    return sorted(systems, key=lambda system: (ROLES.index(system.role), system.name))


def _read_result(folder: Path) -> SetResult | None:
    if not (folder / "score.json").is_file():
        return None
    score, stream = read_json(folder / "score.json", _SCORE), folder / "stream.json"
    if any(score[metric]["wrd"] < 1 for metric in ("wer", "cer", "ter") if score.get(metric)):
        raise one_problem(folder / "score.json", "is of no words", "score again: python -m espnet2_kd.bin.score")
    return SetResult(folder, score, read_json(stream, _STREAM) if stream.is_file() else None)


def _different_sets(experiments: Sequence[Experiment], test_sets: Sequence[str]) -> list[Problem]:
    problems = []
    for name in test_sets:
        results = [run.results[name] for run in experiments if name in run.results]
        sizes = [(result.score["wer"]["snt"], result.score["wer"]["wrd"]) for result in results]
        usual = statistics.mode(sizes) if sizes else None
        for result, size in zip(results, sizes, strict=True):
            if size != usual:
                what = f"{size[0]} utterances and {size[1]} words, but {usual[0]} and {usual[1]} elsewhere"
                remedy = "decode and score the systems on the same set"
                problems.append(Problem(str(result.folder / "score.json"), 0, "-", what, remedy))
    return problems
