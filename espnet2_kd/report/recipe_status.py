"""How far a recipe is, from what its stages leave behind; nothing but files is read, so it may run on another machine."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from espnet2_kd.data.progress import format_seconds
from espnet2_kd.jobs.log import STARTED as BEGUN_AT
from espnet2_kd.jobs.log import end_of, ended, said_last, why
from espnet2_kd.jobs.states import read_states
from espnet2_kd.report.markdown import columns

LOCK = ".lock"
STARTED = ".started"
STAGES = ".stages"  # of the recipe's exp: see utils/once.sh and run_stages.sh
DONE, RUNNING, FAILED, INTERRUPTED, NOT_BEGUN = "done", "running", "failed", "interrupted", "not begun"
SHOWN = 3  # failed jobs
JOB = re.compile(r"(.+)\.(\d+)\.log")
EPOCH = re.compile(r"(\d+)/(\d+)epoch started(?:\. Estimated time to finish: (.+))?")
RESULTS = re.compile(r"(\d+)epoch results: .*?\[valid\] (.+?), time=")
COMPONENT = re.compile(r"\b(acc|loss)=([-\d.e+]+|nan)")
COUNTED = re.compile(r"^.*\b\d+/\d+.*$", re.MULTILINE)
NOTE = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True)
class Step:
    """One command of a stage, which `once` of utils/once.sh runs.

    where: its stamp, as seen from the recipe.
    state: `done`, `running`, `failed`, or `interrupted`: it was ended, and no log says that it failed by itself.
    since: when it got there.
    detail: epochs of a training, jobs of an array, who runs it, why it failed and which log tells more; or nothing.
    stage: number of the stage that it belongs to; None where that was not written down.
    """

    where: str
    state: str
    since: datetime
    detail: str
    stage: int | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe; `since`: when it got into this state, None for one that was not begun."""

    number: int
    name: str
    state: str
    since: datetime | None
    detail: str


def steps(recipe: Path) -> list[Step]:
    """All that were ever begun in a recipe, or in a part of it, those that are done first."""
    found = []
    for lock in recipe.rglob(f".*{LOCK}"):
        stamp = lock.with_name(lock.name.removesuffix(LOCK))
        started = stamp.with_name(stamp.name + STARTED)
        newest = next((path for path in (stamp, started) if path.exists()), lock)
        since = datetime.fromtimestamp(newest.stat().st_mtime)
        note = dict(NOTE.findall(end_of(lock)))
        # The lock is also held while a step only finds out that it has nothing to do.
        state = RUNNING if _is_held(lock) else DONE if stamp.exists() else INTERRUPTED
        parts: list[str] = []
        if state != DONE:
            state, parts = _look(stamp.parent, recipe, state, since)
        if state == RUNNING and "host" in note:
            parts.append(f"on {note['host']}, process {note.get('pid')}")
        stage = int(note["stage"]) if note.get("stage", "").isdigit() else None
        found.append(Step(str(stamp.relative_to(recipe)), state, since, "; ".join(parts), stage))
    return sorted(found, key=lambda step: (step.state != DONE, step.since, step.where))


def stages(recipe: Path, found: Sequence[Step]) -> list[Stage]:
    """All stages of a recipe, begun or not, in their order; none where it was never run, or only by an older version.

    found: its steps. What runs or has failed of them decides where the stage's own notes have come to no end.
    """
    folder = next(iter(sorted(recipe.glob(f"*/{STAGES}"))), None)
    if folder is None or not (folder / "names").is_file():
        return []
    names = (folder / "names").read_text(encoding="utf-8").split()
    return [
        _stage(folder / f"{n}.stage", n, name, [step for step in found if step.stage == n])
        for n, name in enumerate(names, 1)
    ]


def _stage(path: Path, number: int, name: str, own: Sequence[Step]) -> Stage:
    if not path.is_file():
        return Stage(number, name, NOT_BEGUN, None, "")
    notes = [line.split() for line in end_of(path).splitlines() if line.count(" ") >= 2]
    begun = next((note for note in reversed(notes) if note[1] == "begun"), None)
    if begun is None:
        return Stage(number, name, NOT_BEGUN, None, "")
    last = notes[-1]
    since = datetime.fromtimestamp(int(last[0]))
    if last[1] == "done":
        return Stage(number, name, DONE, since, f"took {format_seconds(float(last[2]))}")
    host, process = (*begun[2:], "", "")[:2]
    if last[1] == "begun" and (_is_held(path) or any(step.state == RUNNING for step in own)):
        return Stage(number, name, RUNNING, since, f"on {host}, process {process}")
    left = sum(step.state not in (DONE, RUNNING) for step in own)
    detail = f"{left} step{'s' if left != 1 else ''} to be done again" if left else ""
    if last[1] == "failed" and not left:
        detail = f"exit code {last[2]}"
    state = FAILED if last[1] == "failed" or any(step.state == FAILED for step in own) else INTERRUPTED
    return Stage(number, name, state, since, detail)


def render(found: list[Step], everything: bool, of_recipe: Sequence[Stage] = ()) -> str:
    """Lines of the stages, then a line for each step.

    Of steps that are done only how many, unless `everything` is asked for; neither those that were begun with other options,
    or in a system that is not wanted any more: their stage has come to its end without them.
    """
    done = sum(step.state == DONE for step in found)
    ends = {one.number: one.since for one in of_recipe if one.state == DONE and one.since is not None}
    left = [
        step
        for step in found
        if step.state in (FAILED, INTERRUPTED) and step.stage in ends and step.since < ends[step.stage]
    ]
    shown = [step for step in found if everything or (step.state != DONE and step not in left)]
    rows = [(str(one.number), one.name, one.state, _when(one.since), one.detail) for one in of_recipe]
    parts = [columns(("stage", "", "state", "since", ""), rows, left=5)] if rows else []
    if shown:
        lines = [(step.where, step.state, _when(step.since), step.detail) for step in shown]
        parts.append(columns(("step", "state", "since", ""), lines, left=4))
    count = f"{done} of {len(found)} steps that were begun are done"
    if left:
        count += f", {len(left)} left by earlier runs{'' if everything else ' (--all shows them)'}"
    return "\n\n".join([*parts, count])


def _when(since: datetime | None) -> str:
    return "" if since is None else f"{since:%Y-%m-%d %H:%M}"


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # file systems without locks
            return False
    return False


def _look(folder: Path, recipe: Path, state: str, since: datetime) -> tuple[str, list[str]]:
    """What the logs beside a stamp say: the state, `failed` where it is known to be, and details."""
    queued = read_states(folder)
    # What other steps have left in the same folder is older.
    logs = [log for log in sorted(folder.glob("*.log")) if log.stat().st_mtime >= since.timestamp() - 1]
    arrays, failed = _arrays(logs, queued, state, recipe)
    parts = [*_training(folder / "train.log"), *queued.values(), *arrays]
    single = [log for log in logs if not JOB.fullmatch(log.name)]
    for log in single if state != RUNNING else ():
        if ended(text := end_of(log)) == FAILED:
            failed = True
            parts.append(_failure(log, text, recipe))
    if state == RUNNING:
        parts += [f"log: {log.relative_to(recipe)}" for log in single[-1:]]
        # Bars and counts of other programs than a training.
        parts += [
            counted[-1].strip()[:100]
            for log in single[-1:]
            if not parts[:-1] and (counted := COUNTED.findall(end_of(log)))
        ]
    if state == INTERRUPTED and (failed or any(", failed" in text or " failed (" in text for text in queued.values())):
        state = FAILED
    return state, parts


def _training(log: Path) -> Iterator[str]:
    if not log.is_file():
        return
    text = end_of(log)
    epochs = EPOCH.findall(text)
    if epochs:
        number, total, left = epochs[-1]
        yield f"epoch {number} of {total}" + (f", {left} to go" if left else "")
    results = RESULTS.findall(text)
    if results:
        number, values = results[-1]
        shown = " ".join(f"{name} {value}" for name, value in COMPONENT.findall(values))
        yield f"valid after epoch {number}: {shown}"
    if not epochs and not results and (last := said_last(text)):
        yield last[:100]


def _arrays(logs: Sequence[Path], queued: Collection[str], state: str, recipe: Path) -> tuple[list[str], bool]:
    """A line for every array of jobs that ran on this machine, and whether one has failed."""
    arrays: dict[str, list[tuple[str, Path, str]]] = {}
    for log in logs:
        match = JOB.fullmatch(log.name)
        if match and match[1] not in queued:
            text = end_of(log)
            arrays.setdefault(match[1], []).append(
                (ended(text) or (RUNNING if state == RUNNING else "unfinished"), log, text)
            )
    lines, failed = [], False
    for name, jobs in arrays.items():
        states = [one for one, _, _ in jobs]
        counts = [f"{states.count(one)} {one}" for one in (DONE, RUNNING, "unfinished", FAILED) if one in states]
        line = f"{name}: {len(jobs)} jobs, {', '.join(counts)}"
        if running := [_started(log) for one, log, _ in jobs if one == RUNNING]:
            line += f" since {min(running)}" if all(running) else ""
        if wrong := [_failure(log, text, recipe) for one, log, text in jobs if one == FAILED]:
            failed = True
            line += f": {'; '.join(wrong[:SHOWN])}{f'; and {len(wrong) - SHOWN} more' if len(wrong) > SHOWN else ''}"
        lines.append(line)
    return lines, failed


def _failure(log: Path, text: str, recipe: Path) -> str:
    """Why a job failed, what it said last, and which log tells more."""
    last = said_last(text)
    return f"{why(text)}{f': {last}' if last else ''}, see {log.relative_to(recipe)}"


def _started(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as stream:
        line = next((line for _, line in zip(range(50), stream) if line.startswith(BEGUN_AT)), "")
    match = re.search(r"\d\d:\d\d", line)
    return match[0] if match else ""
