"""One target, some examples: each in an empty working directory, with a time limit."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable
from types import FrameType
from typing import Any

import hypothesis
from hypothesis.database import DirectoryBasedExampleDatabase
from targets import DECLARED, TARGETS

EXAMPLE_SECONDS = 10


class TooSlow(Exception):
    """An example took too long."""


def check(name: str, num_examples: int, seed: int | None, beat: Callable[[], None] = lambda: None) -> int:
    """Try so many examples of a target and give how many there were; without a seed they are the same every time.

    beat: called before each of them.

    Raises:
        Exception: whatever the target raises but must not, for the smallest example that was found.
    """
    target = TARGETS[name]
    tried = [0]

    @hypothesis.settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=seed is None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
        database=None if seed is None else DirectoryBasedExampleDatabase(".hypothesis/fuzz"),
    )
    @hypothesis.given(target.strategy)
    def example(drawn: Any) -> None:
        tried[0] += 1
        beat()
        in_a_folder(lambda: target.read(drawn))

    (example if seed is None else hypothesis.seed(seed)(example))()
    return tried[0]


def in_a_folder(read: Callable[[], None]) -> None:
    """Call it in an empty working directory; a declared error is fine, anything else is not, nor is taking long."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        logging.disable(logging.CRITICAL)
        alarm = signal.signal(signal.SIGALRM, _too_slow)
        signal.alarm(EXAMPLE_SECONDS)
        try:
            read()
        except DECLARED as error:
            assert str(error).strip(), "an error without a word"
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
            logging.disable(logging.NOTSET)
            os.chdir(before)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"more than {EXAMPLE_SECONDS} s")
