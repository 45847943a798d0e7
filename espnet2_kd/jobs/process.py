"""A command as a process of this machine, in a group of its own, so that it can be ended whole."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import IO

POLL_SECONDS = 0.05
GRACE_SECONDS = 30.0  # for a training to end its step and to save
CHILDREN_SECONDS = 5.0  # for what it leaves behind
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """Have Linux end the calling process if its parent is killed, lest a rerun meets it at the same files."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start(argv: Sequence[str], output: IO[bytes] | None, num_threads: int, **options) -> subprocess.Popen:
    """Start a command without a shell, its output and errors to one file. Raises OSError where it cannot be found."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        preexec_fn=end_with_parent,
        **options,
    )


def end(processes: Collection[subprocess.Popen], hurry: Callable[[], bool] = lambda: False) -> None:
    """End processes that `start` has started: politely first, then with all their children, and after a grace for good.

    Only the process itself is asked at first: a training needs its data loaders until it has saved its state.
    hurry: whether somebody has lost patience with the grace.
    """
    for process in processes:
        if process.poll() is None:
            process.terminate()
    _wait(lambda: all(process.poll() is not None for process in processes), GRACE_SECONDS, hurry)
    left = [process for process in processes if signal_group(process, signal.SIGTERM)]
    _wait(lambda: not any(signal_group(process, 0) for process in left), CHILDREN_SECONDS, hurry)
    for process in processes:
        signal_group(process, signal.SIGKILL)
        process.wait()


def _wait(condition: Callable[[], bool], seconds: float, hurry: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and not hurry() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def signal_group(process: subprocess.Popen, sign: int) -> bool:
    """Send a signal to a process and its children; whether there was any of them left."""
    try:
        os.killpg(process.pid, sign)
    except ProcessLookupError:
        return False
    return True
