"""Progress of a long job: a bar on a terminal, now and then a plain line in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Counts `total` steps of `label`; use as a context manager and call `step` after each piece of work."""

    def __init__(self, label: str, total: int, stream: TextIO | None = None, every: float = 10.0):
        self.label, self.total, self.every = label, total, every
        self.stream = stream if stream is not None else sys.stderr
        self.done = 0
        self._bar = self.stream.isatty()
        self._start = self._shown = time.monotonic()
        self._shown_count = -1

    def __enter__(self):
        return self

    def step(self, count: int = 1) -> None:
        """Count `count` more steps; shows the bar at most ten times a second, a plain line every `every` seconds."""
        self.done += count
        now = time.monotonic()
        if now - self._shown >= (0.1 if self._bar else self.every):
            self._shown = now
            self._show(now)

    def __exit__(self, *error: object) -> None:
        if self._bar or self._shown_count != self.done:
            self._show(time.monotonic())
        if self._bar:
            self.stream.write("\n")

    def _show(self, now: float) -> None:
        self._shown_count = self.done
        text = f"{self.label}: {self.done}/{self.total}, {now - self._start:.0f} s"
        if self._bar:
            filled = 30 * self.done // max(self.total, 1)
            self.stream.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text} ")
        else:
            self.stream.write(text + "\n")
        self.stream.flush()
