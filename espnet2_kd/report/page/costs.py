"""What the stages of a recipe cost: time, memory, disk, from what they left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL, HEAD = 1 << 12, 1 << 16
_STAMP = re.compile(r"stage=(\w*) seconds=(\d+)")
_TIME = re.compile(r"^# Accounting: time=(\d+) threads=(\d+)$", re.MULTILINE)
_MEMORY = re.compile(r"^# Accounting: peak_memory_kb=(\d+)$", re.MULTILINE)
# Logs of steps that have a stamp of their own beside another's.
_OWN_LOGS = {".streamed": ("stream",), ".cached": ("cache",), ".packed": ("pack",), ".decoded": (), ".scored": ()}
_OTHERS = {name for names in _OWN_LOGS.values() for name in names}
_NOT_OURS = {"downloads", ".git", "__pycache__"}


@dataclass(frozen=True)
class Step:
    """One command of a stage.

    seconds: wall time of the run that ended it; None where it was not written down.
    num_jobs, job_seconds, peak_kb: what the logs of its jobs say; None where none do.
    """

    stage: str
    where: str
    seconds: float | None
    num_jobs: int
    job_seconds: float | None
    peak_kb: int | None


@dataclass(frozen=True)
class StageCost:
    """The steps of one stage; sums are of what is known, `unknown` says of how many steps the time is not."""

    stage: str
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> float | None:
        known = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(known) if known else None

    @property
    def unknown(self) -> int:
        return sum(step.seconds is None for step in self.steps)

    @property
    def job_seconds(self) -> float | None:
        known = [step.job_seconds for step in self.steps if step.job_seconds is not None]
        return sum(known) if known else None

    @property
    def peak_kb(self) -> int | None:
        return max((step.peak_kb for step in self.steps if step.peak_kb is not None), default=None)


@dataclass(frozen=True)
class Disk:
    """A directory and what is in it, in bytes; hard links count once, what links point to does not."""

    where: str
    num_files: int
    size: int


def read_costs(recipe: Path, roots: Sequence[str]) -> tuple[list[StageCost], list[Disk]]:
    """Read stages, in the order in which they were begun, and disk space of the directories of a recipe.

    Below a root whose directories are experiments (those with `exp` in their name) every one is listed by itself.
    """
    steps: list[tuple[float, Step]] = []
    disks: dict[str, list[int]] = {}
    seen: set[tuple[int, int]] = set()
    for root in roots:
        for folder, names, files in os.walk(recipe / root):
            names[:] = sorted(name for name in names if name not in _NOT_OURS)
            here = Path(folder)
            where = here.relative_to(recipe)
            entry = disks.setdefault("/".join(where.parts[: 1 if len(where.parts) < 2 else 2]), [0, 0])
            for name in files:
                try:
                    status = os.lstat(here / name)
                except OSError:
                    continue
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    entry[0] += 1
                    entry[1] += status.st_size
                if name.startswith(".") and f"{name}.lock" in files and not name.endswith((".lock", ".started")):
                    steps.append((status.st_mtime, _read_step(recipe, here / name, files)))
    stages: dict[str, list[Step]] = {}
    for _, step in sorted(steps, key=lambda item: item[0]):
        stages.setdefault(step.stage, []).append(step)
    found = [Disk(where, count, size) for where, (count, size) in disks.items() if count]
    return (
        [StageCost(stage, tuple(some)) for stage, some in stages.items()],
        sorted(found, key=lambda disk: (-disk.size, disk.where)),
    )


def _read_step(recipe: Path, stamp: Path, files: Sequence[str]) -> Step:
    try:
        with stamp.open(encoding="utf-8", errors="replace") as lines:
            noted = _STAMP.search(lines.read(HEAD))
    except OSError:
        noted = None
    logs = [_read_job(stamp.parent / name) for name in files if _is_of(stamp.name, name)]
    times = [seconds for seconds, _ in logs if seconds is not None]
    return Step(
        (noted[1] if noted else "") or "not recorded",
        stamp.relative_to(recipe).as_posix(),
        float(noted[2]) if noted else None,
        len(logs),
        sum(times) if times else None,
        max((peak for _, peak in logs if peak is not None), default=None),
    )


def _is_of(stamp: str, file: str) -> bool:
    """Whether a file beside a stamp is a log of its command: `x.log`, `x.3.log`, or `x.log.1` of an earlier part."""
    match = re.fullmatch(r"([^.].*?)(?:\.\d+)?\.log(?:\.\d+)?", file)
    if match is None:
        return False
    own = _OWN_LOGS.get(stamp)
    return match[1] not in _OTHERS if own is None else match[1] in own


def _read_job(log: Path) -> tuple[float | None, int | None]:
    """Seconds and peak memory (KiB) of a job, as the end of its log has them."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return None, None
    times, peaks = _TIME.findall(text), _MEMORY.findall(text)
    return float(times[-1][0]) if times else None, int(peaks[-1]) if peaks else None


def format_bytes(size: float) -> str:
    """Write a size in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_seconds(seconds: float | None) -> str:
    """Write a time in the unit that suits it."""
    if seconds is None:
        return "not recorded"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
