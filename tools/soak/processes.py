"""Processes that were started with a mark in their environment, and whatever these have started."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "KD_SOAK_ATTEMPT"
POLL_SECONDS = 0.05


def marked(mark: str) -> dict[int, str]:
    """Give process id and command of every living process whose environment has `MARK=mark`, as it was started."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # What has ended, but was not waited for, has no environment.
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode(errors="replace").strip()
        except (OSError, ValueError):
            continue
    return found


def kill(pid: int) -> None:
    """Send SIGKILL to a process that may just have ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_all(mark: str) -> None:
    """Kill until nothing with this mark lives, since what is killed may have started more meanwhile."""
    while found := marked(mark):
        for pid in found:
            kill(pid)
        time.sleep(POLL_SECONDS)


def survivors(mark: str, seconds: float) -> dict[int, str]:
    """Give what still lives after so many seconds; returns as soon as nothing does."""
    deadline = time.monotonic() + seconds
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return found
