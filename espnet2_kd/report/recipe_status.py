"""How far a recipe is, from what its stages leave behind; nothing but files is read, so it may run on another machine."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from espnet2_kd.jobs.log import ended
from espnet2_kd.jobs.states import read_states

LOCK = ".lock"
STARTED = ".started"
TAIL = 1 << 16  # bytes of a log that are looked at from its end
JOB = re.compile(r"(.+)\.(\d+)\.log")
EPOCH = re.compile(r"(\d+)/(\d+)epoch started(?:\. Estimated time to finish: (.+))?")
RESULTS = re.compile(r"(\d+)epoch results: .*?\[valid\] (.+?), time=")
COMPONENT = re.compile(r"\b(acc|loss)=([-\d.e+]+|nan)")


@dataclass(frozen=True)
class Step:
    """One command of a stage, which `once` of utils/once.sh runs.

    where: its stamp, as seen from the recipe.
    state: `done`, `running`, or `interrupted`: it failed or was ended.
    since: when it got there.
    detail: epochs of a training, jobs of an array, or nothing.
    """

    where: str
    state: str
    since: datetime
    detail: str


def steps(recipe: Path) -> list[Step]:
    """All that were ever begun in a recipe, or in a part of it, those that are done first."""
    found = []
    for lock in recipe.rglob(f".*{LOCK}"):
        stamp = lock.with_name(lock.name.removesuffix(LOCK))
        started = stamp.with_name(stamp.name + STARTED)
        newest = next((path for path in (stamp, started) if path.exists()), lock)
        # The lock is also held while a step only finds out that it has nothing to do.
        state = "running" if _is_held(lock) else "done" if stamp.exists() else "interrupted"
        since = datetime.fromtimestamp(newest.stat().st_mtime)
        detail = "" if state == "done" else _detail(stamp.parent)
        found.append(Step(str(stamp.relative_to(recipe)), state, since, detail))
    return sorted(found, key=lambda step: (step.state != "done", step.since, step.where))


def render(found: list[Step], everything: bool) -> str:
    """A line for each step; of those that are done only how many, unless `everything` is asked for."""
    done = sum(step.state == "done" for step in found)
    shown = [step for step in found if everything or step.state != "done"]
    width = max((len(step.where) for step in shown), default=0)
    lines = [
        f"{step.where:<{width}}  {step.state:<11}  {step.since:%Y-%m-%d %H:%M}  {step.detail}".rstrip()
        for step in shown
    ]
    return "\n".join([*lines, f"{done} of {len(found)} steps that were begun are done"])


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # file systems without locks
            return False
    return False


def _detail(folder: Path) -> str:
    queued = read_states(folder)
    parts = [*_training(folder / "train.log"), *queued.values(), *_arrays(folder, queued)]
    return "; ".join(parts)


def _training(log: Path) -> Iterator[str]:
    if not log.is_file():
        return
    text = _tail(log)
    epochs = EPOCH.findall(text)
    if epochs:
        number, total, left = epochs[-1]
        yield f"epoch {number} of {total}" + (f", {left} to go" if left else "")
    results = RESULTS.findall(text)
    if results:
        number, values = results[-1]
        shown = " ".join(f"{name} {value}" for name, value in COMPONENT.findall(values))
        yield f"valid after epoch {number}: {shown}"
    if not epochs and not results and (lines := text.strip().splitlines()):
        yield lines[-1][:100]


def _arrays(folder: Path, queued: Collection[str]) -> Iterator[str]:
    arrays: dict[str, list[str]] = {}
    for log in sorted(folder.glob("*.log")):
        match = JOB.fullmatch(log.name)
        if match and match[1] not in queued:
            state = ended(_tail(log)) or "unfinished"
            arrays.setdefault(match[1], []).append(state)
    for name, states in arrays.items():
        counts = ", ".join(
            f"{states.count(state)} {state}" for state in ("done", "unfinished", "failed") if state in states
        )
        yield f"{name}: {len(states)} jobs, {counts}"


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL))
        return stream.read().decode("utf-8", errors="replace")
