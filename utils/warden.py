#!/usr/bin/env python3
"""End what a killed script has left running, and remove its temporary files.

    warden.py $$ &

Waits until the script of this process id, its parent, is gone, and then ends all processes that were started with the
same KD_RUN in their environment: first politely, after a grace period for good. KD_RUN is the script's folder of temporary
files, which is removed then. After a script that came to its end there are neither.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "KD_RUN"
POLL_SECONDS = 0.3
GRACE_SECONDS = 30.0  # a training may be saving its state


def others_with(mark: bytes) -> dict[int, bytes]:
    """Give ids and commands of all other processes that were started with this in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:  # ended meanwhile, or someone else's
            continue
    return found


def end_all(mark: bytes) -> None:
    """End them, and what they start while they end."""
    deadline = time.monotonic() + GRACE_SECONDS
    # What has become another program since it was told has lost the signal: between fork and exec it may be caught.
    told: set[tuple[int, bytes]] = set()
    while others := others_with(mark):
        polite = time.monotonic() < deadline
        for pid, command in others.items():
            if polite and (pid, command) in told:
                continue
            told.add((pid, command))
            try:
                os.kill(pid, signal.SIGTERM if polite else signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(POLL_SECONDS)


def main() -> None:
    script = int(sys.argv[1])
    # A terminal's Ctrl-C, and whoever ends the script's whole group, should not end this too.
    os.setsid()
    while os.getppid() == script:
        time.sleep(POLL_SECONDS)
    end_all(f"{MARK}={os.environ[MARK]}".encode())
    shutil.rmtree(os.environ[MARK], ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
