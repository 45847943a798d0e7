"""Signals by which schedulers announce the end of a job: a training saves its state and asks to be run again."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 85  # exit code: the state is saved, run me again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

# Signals belong to the process, and so does what is known of them.
_caught: list[int] = []
_deferring = False


class Interrupted(SystemExit):
    """The program ends and wants to be run again."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM and SIGUSR1 end the program with the code 85; at once, but where `deferred` says otherwise."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _caught.clear()


@contextmanager
def deferred() -> Iterator[None]:
    """Only note signals: somebody will look at `caught`."""
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def caught() -> str | None:
    """Name of the signal that wants the program to end, or None."""
    return signal.Signals(_caught[0]).name if _caught else None


@contextmanager
def blocked() -> Iterator[None]:
    """Processes started meanwhile do not see these signals, which a scheduler sends to all processes of a job."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """In a process started under `blocked`: its parent, and nobody else, can end it by SIGTERM."""
    threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _handle(number: int, frame: FrameType | None) -> None:
    _caught.append(number)
    if _deferring:
        logging.warning("%s: the state is saved after this step", signal.Signals(number).name)
        return
    # Of a process per GPU: they have states, this one waits for them. Those that read data are daemons.
    ranks = [child for child in multiprocessing.active_children() if not child.daemon]
    if not ranks:
        raise Interrupted
    for child in ranks:
        os.kill(child.pid, number)
