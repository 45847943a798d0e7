"""One target, some examples: each in an empty working directory, with limits of time."""

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

CPU_SECONDS, SECONDS = 10.0, 120.0  # of an example; on the clock it may take longer, since the machine may be busy


class TooSlow(Exception):
    """An example took too long."""


def check(name: str, num_examples: int, seed: int | None, beat: Callable[[], None] = lambda: None) -> int:
    """Try so many examples of a target and give how many there were; without a seed they are the same every time.

    beat: called before each of them.

    Raises:
        Exception: whatever the target raises but must not, for the smallest example that was found.
    """
    tried = [0]

    def count() -> None:
        tried[0] += 1
        beat()

    example = as_test(name, num_examples, seed is None, count)
    (example if seed is None else hypothesis.seed(seed)(example))()
    return tried[0]


def as_test(name: str, num_examples: int, derandomize: bool, beat: Callable[[], None]) -> Callable[[], None]:
    """Give a target as a test of hypothesis, which is also a reader of bytes for other fuzzers."""
    target = TARGETS[name]

    @hypothesis.settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=derandomize,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
        database=None if derandomize else DirectoryBasedExampleDatabase(".hypothesis/fuzz"),
    )
    @hypothesis.given(target.strategy)
    def example(drawn: Any) -> None:
        beat()
        in_a_folder(lambda: target.read(drawn))

    return example


def in_a_folder(read: Callable[[], None]) -> None:
    """Call it in an empty working directory; a declared error is fine, anything else is not, nor is taking long."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        logging.disable(logging.CRITICAL)
        before_alarms = [signal.signal(number, _too_slow) for number in (signal.SIGPROF, signal.SIGALRM)]
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            read()
        except DECLARED as error:
            assert str(error).strip(), "an error without a word"
        finally:
            for timer, number, handler in zip(
                (signal.ITIMER_PROF, signal.ITIMER_REAL), (signal.SIGPROF, signal.SIGALRM), before_alarms
            ):
                signal.setitimer(timer, 0)
                signal.signal(number, handler)
            logging.disable(logging.NOTSET)
            os.chdir(before)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"more than {CPU_SECONDS:.0f} s of computing, or {SECONDS:.0f} s on the clock")
