"""Which intent classifiers were trained, `exp/intent_<config>_seed<N>` and `exp/text_<name>_seed<N>`, with scores."""

from __future__ import annotations

import glob
import json
import re
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.report.experiments import Experiment, SetResult, System
from espnet2_kd.report.intent_score import file_hash

RESULT = "result.json"
LABELS = "label"
TEXT = "text"
_NAME = re.compile(r"(?P<system>.+)_seed(?P<seed>\d+)")
# What a report shows of a training, whoever wrote it down.
_FACTS = ("command", "config", "git_hash", "git_date", "git_dirty", "versions", "machine")
_FACTS += ("num_parameters", "train_seconds")
_KEYS = {"num_utts", "slots", "exact_match", "slot_accuracy", "slot_f1", "reference", "hypothesis", "utts", "right"}


def find_intent_experiments(patterns: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Find the directories named `<system>_seed<number>`, in the order of the patterns, and those that are not there.

    Others that a glob finds are passed over: `exp/intent_*` also matches statistics.
    Raises DataError for another name given outright.
    """
    found: dict[Path, None] = {}
    missing = []
    for pattern in patterns:
        if glob.has_magic(pattern):
            paths = sorted(Path(path) for path in glob.glob(pattern))
            found |= dict.fromkeys(path for path in paths if path.is_dir() and _NAME.fullmatch(path.name))
        elif _NAME.fullmatch(Path(pattern).name) is None:
            remedy = "name it <system>_seed<number>, as exp/intent_train_none_seed1"
            raise one_problem(pattern, "experiment has no seed in its name", remedy)
        elif Path(pattern).is_dir():
            found[Path(pattern)] = None
        else:
            missing.append(Path(pattern))
    return list(found), missing


def read_intent_systems(
    paths: Sequence[Path], tag: str, test_sets: Sequence[str], missing: Sequence[Path] = ()
) -> list[System]:
    """Read experiments and group their seeds: text classifiers first, else in the order of `paths`.

    A system of which all seeds are `missing` comes after the others, without experiments.
    Raises DataError for a seed that occurs twice, for results that do not belong to the labels beside them, and for
    systems scored on different versions of a set.
    """
    problems: list[Problem] = []
    groups: dict[str, dict[int, Experiment]] = {}
    for path in paths:
        name, seed = _NAME.fullmatch(path.name).group("system", "seed")
        run = _read_run(path, name, int(seed), problems)
        results = {test_set: _read_result(path / tag / test_set, problems) for test_set in test_sets}
        seeds = groups.setdefault(name, {})
        if int(seed) in seeds:
            what = f"seed {seed} of {name} is also {seeds[int(seed)].path}"
            problems.append(Problem(str(path), 0, "-", what, "report one of the two"))
        seeds[int(seed)] = Experiment(path, run, {key: result for key, result in results.items() if result})
    for path in missing:
        groups.setdefault(_NAME.fullmatch(path.name)["system"], {})
    problems += _different_sets([run for seeds in groups.values() for run in seeds.values()], test_sets)
    if problems:
        raise DataError(problems)
    systems = [
        System(name, _role(name, seeds), tuple(seeds[seed] for seed in sorted(seeds))) for name, seeds in groups.items()
    ]
    return sorted(systems, key=lambda system: system.role != TEXT)


def _role(name: str, seeds: dict[int, Experiment]) -> str:
    if name == TEXT or name.startswith(f"{TEXT}_"):
        return TEXT
    return next((run["role"] for experiment in seeds.values() if "role" in (run := experiment.run)), "speech")


def _read_run(path: Path, name: str, seed: int, problems: list[Problem]) -> dict[str, Any]:
    """What `run.json` says, failing that `train.json` of a text classifier and the command in `run.sh`."""
    run: dict[str, Any] = {"command": _command(path / "run.sh")}
    for file in ("train.json", "run.json"):
        known = _read_json(path / file, problems) or {}
        run |= {key: known[key] for key in (*_FACTS, "role", "seed") if known.get(key) is not None}
        if "epochs" in known and "train_seconds" not in run:
            run["train_seconds"] = sum(epoch["seconds"] for epoch in known["epochs"])
    if run.get("seed", seed) != seed:
        what = f"seed is {run['seed']}, but the directory's name says {seed}"
        problems.append(Problem(str(path), 0, "-", what, "name it after its seed"))
    return {**run, "name": name, "seed": seed}


def _command(path: Path) -> str | None:
    """The command of a `run.sh` that utils/prepare_exp.sh wrote: `cd <recipe> && <command> "$@"`."""
    if not path.is_file():
        return None
    last = path.read_text(encoding="utf-8").strip().split("\n")[-1]
    match = re.fullmatch(r'cd \S.*? && (.+) "\$@"', last)
    return match and shlex.join(shlex.split(match[1]))


def _read_json(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        found = None
        problems.append(Problem(str(path), 0, "-", f"is not JSON ({error})", "remove it, or write it again"))
    return found if isinstance(found, dict) else None


def _read_result(folder: Path, problems: list[Problem]) -> SetResult | None:
    path = folder / RESULT
    result = _read_json(path, problems)
    if result is None:
        return None
    fault = _fault(result, folder)
    if fault:
        problems.append(Problem(str(path), 0, "-", fault, "score again: python -m espnet2_kd.bin.score_intents"))
        return None
    return SetResult(folder, result, None)


def _fault(result: dict[str, Any], folder: Path) -> str | None:
    """Say why a result is not that of the labels beside it and of its reference."""
    if missing := sorted(_KEYS - set(result)):
        return f"is no result of scoring, as {', '.join(missing)} is missing"
    labels, reference = folder / LABELS, Path(result["reference"]["path"])
    if not labels.is_file():
        return f"there is no {labels} that it could belong to"
    if file_hash(labels) != result["hypothesis"]["sha256"]:
        return f"{labels} has changed since"
    # A reference that was moved away is no reason to refuse.
    if reference.is_file() and file_hash(reference) != result["reference"]["sha256"]:
        return f"{reference} has changed since"
    return None


def _different_sets(experiments: Sequence[Experiment], test_sets: Sequence[str]) -> list[Problem]:
    problems = []
    for name in test_sets:
        results = [run.results[name] for run in experiments if name in run.results]
        hashes = [result.score.get("reference", {}).get("sha256") for result in results]
        usual = statistics.mode(hashes) if hashes else None
        for result, sha in zip(results, hashes, strict=True):
            if sha != usual:
                what = "scored against another version of the set than elsewhere"
                remedy = "decode and score the systems on the same set"
                problems.append(Problem(str(result.folder / RESULT), 0, "-", what, remedy))
    return problems
