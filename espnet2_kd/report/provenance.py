"""Where a result came from: command, config, code, versions, machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any

from espnet2_kd.data.table import replacing

PACKAGES = ("torch", "torchaudio", "espnet", "transformers", "numpy", "sentencepiece")


def git_state(directory: Path | None = None) -> dict[str, Any]:
    """Hash and date of the checked-out commit and whether tracked files differ from it; Nones outside a checkout."""
    here = directory or Path(__file__).resolve().parent

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_hash": git("rev-parse", "HEAD"),
        "git_date": git("log", "-1", "--format=%cI"),
        "git_dirty": None if status is None else bool(status),
    }


def machine() -> dict[str, Any]:
    """CPU model, usable cores and GPU, without host or user names."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    gpu = None
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        pass
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "gpu": gpu}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def role_of(name: str, distilled: bool) -> str:
    """`distilled`, `teacher` or `student`: what a system is compared as."""
    if distilled:
        return "distilled"
    return "teacher" if "teacher" in name else "student"


def write_run(
    exp: Path,
    config: str | None,
    command: list[str],
    seed: int,
    distilled: bool,
    teacher: str | None,
    num_parameters: int | None,
    train_seconds: float,
    start: dict[str, Any],
) -> Path:
    """Write `<exp>/run.json` atomically.

    Args:
        start: `git_state()` when the training began; by its end the checkout may be another.
        train_seconds: wall time. A resumed training adds its parts up.
    """
    path = exp / "run.json"
    earlier = json.loads(path.read_text())["train_seconds"] if path.exists() else 0.0
    name = Path(config).stem if config else exp.name
    record = {
        "name": name,
        "role": role_of(name, distilled),
        "seed": seed,
        "config": config,
        "command": shlex.join(command),
        **start,
        "versions": versions(),
        "machine": machine(),
        "num_parameters": num_parameters,
        "train_seconds": round(earlier + train_seconds, 1),
        "teacher": teacher,
    }
    with replacing(path) as stream:
        stream.write(json.dumps(record, indent=2) + "\n")
    return path
