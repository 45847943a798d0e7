"""With which software, machine and commands the systems of a report were made."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from espnet2_kd.report.experiments import System


def environments(systems: Sequence[System], score_file: str = "score.json") -> str:
    """Write the block ESPnet2 reports start with; values that differ between trainings are all listed.

    The date is that of the newest score, so that the same scores give the same report.
    """
    runs = [experiment.run for system in systems for experiment in system.experiments]
    newest = max(
        (
            (result.folder / score_file).stat().st_mtime
            for system in systems
            for experiment in system.experiments
            for result in experiment.results.values()
        ),
        default=None,
    )
    date = "-" if newest is None else datetime.fromtimestamp(newest, timezone.utc).strftime("%a %b %e %H:%M:%S UTC %Y")
    lines = ["## Environments", ""]
    lines.append(f"- date: `{date}`")
    for label, key, prefix in (
        ("python version", "python", ""),
        ("espnet2 version", "espnet", "espnet "),
        ("pytorch version", "torch", "pytorch "),
    ):
        lines.append(f"- {label}: `{_all(runs, lambda run, k=key: run.get('versions', {}).get(k), prefix)}`")
    hashes = {run.get("git_hash") for run in runs}
    lines.append(f"- Git hash: `{_all(runs, lambda run: run.get('git_hash'))}`")
    lines.append(f"  - Commit date: `{_all(runs, lambda run: run.get('git_date'))}`")
    lines.append(f"- machine: `{_all(runs, lambda run: _machine(run.get('machine') or {}))}`")
    if len(hashes) > 1:
        lines += ["", "The systems were trained from different commits:", ""]
        for system in systems:
            for experiment in system.experiments:
                dirty = " with uncommitted changes" if experiment.run.get("git_dirty") else ""
                lines.append(f"- {experiment.path.as_posix()}: `{experiment.run.get('git_hash') or 'unknown'}`{dirty}")
    return "\n".join(lines)


def _all(runs: Sequence[dict[str, Any]], read: Callable[[dict[str, Any]], str | None], prefix: str = "") -> str:
    values = dict.fromkeys(read(run) or "unknown" for run in runs)
    return ", ".join(prefix + value for value in values) or "-"


def _machine(machine: dict[str, Any]) -> str | None:
    if not machine:
        return None
    return f"{machine.get('cpu')}, {machine.get('cores')} cores, GPU: {machine.get('gpu') or 'none'}"


def commands(systems: Sequence[System], role_names: Mapping[str, str]) -> list[str]:
    """Write the command of every training."""
    parts = ["## Training commands"]
    for system in systems:
        lines = "\n".join(relative_command(experiment.run["command"]) for experiment in system.experiments)
        parts.append(f"{role_names[system.role]}, {system.name}:\n\n```sh\n{lines}\n```")
    return parts


def relative_command(command: str | list[str], root: Path | None = None) -> str:
    """Write a command as one can type it in the recipe directory `root`: paths below it relative, plain `python`."""
    base = f"{(root or Path.cwd()).as_posix()}/"
    words = shlex.split(command) if isinstance(command, str) else command
    relative = [word.replace(base, "") for word in words]
    if relative and Path(relative[0]).name.startswith("python"):
        relative[0] = "python"
    return shlex.join(relative)
