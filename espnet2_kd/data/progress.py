"""Progress of a long job: a bar with rate and remaining time on a terminal, now and then a plain line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from typing import Any, TextIO, TypeVar

Item = TypeVar("Item")
# What takes less says nothing: on a terminal, where a bar would only flicker, and in a log.
BAR_SECONDS, LINE_SECONDS = 0.5, 2.0


class Progress:
    """Counts `total` steps of `label`; use as a context manager and call `step` after each piece of work.

    done: steps that were done before; they count, but not for the rate.
    unit: of a step, as `MiB`.
    stream: standard error by default.
    every: seconds between plain lines.
    """

    def __init__(
        self,
        label: str,
        total: int,
        stream: TextIO | None = None,
        every: float = 10.0,
        unit: str = "",
        done: int = 0,
    ):
        self.label, self.total, self.every, self.unit = label, total, every, unit
        self.stream = stream if stream is not None else sys.stderr
        self.done = self._before = done
        self._start = self._shown = time.monotonic()
        self._shown_count = -1
        self._bar = self._terminal_bar() if self.stream.isatty() else None

    def _terminal_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=self.total,
            initial=self.done,
            desc=self.label,
            unit=f" {self.unit}" if self.unit else "",
            file=self.stream,
            delay=BAR_SECONDS,
            dynamic_ncols=True,
        )

    def __enter__(self) -> Progress:
        return self

    def step(self, count: int = 1) -> None:
        """Count `count` more steps; shows the bar at most ten times a second, a plain line every `every` seconds."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = time.monotonic()
        if now - self._shown >= self.every:
            self._line(now)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
            return
        now = time.monotonic()
        shown = self._shown_count >= 0 or now - self._start >= min(LINE_SECONDS, self.every)
        if shown and self._shown_count != self.done:
            self._line(now)

    def _line(self, now: float) -> None:
        self._shown, self._shown_count = now, self.done
        unit = f" {self.unit}" if self.unit else ""
        text = f"{self.label}: {self.done}/{self.total}{unit}"
        seconds, fresh = now - self._start, self.done - self._before
        if fresh > 0 and seconds > 0:
            left = max(self.total - self.done, 0) * seconds / fresh
            text += f", {format_rate(fresh / seconds, self.unit)}, "
            text += f"{format_seconds(left)} left" if left else f"in {format_seconds(seconds)}"
        self.stream.write(text + "\n")
        self.stream.flush()


def tracked(label: str, items: Collection[Item], unit: str = "") -> Iterator[Item]:
    """Give the items one after the other, and show how many are done with."""
    with Progress(label, len(items), unit=unit) as progress:
        for item in items:
            yield item
            progress.step()


def format_rate(rate: float, unit: str = "") -> str:
    """Write steps per second, or where these are few seconds per step."""
    if rate >= 1:
        return (
            f"{rate:.0f}{f' {unit}' if unit else ''}/s" if rate >= 10 else f"{rate:.1f}{f' {unit}' if unit else ''}/s"
        )
    return f"{1 / rate:.1f} s each"


def format_seconds(seconds: float) -> str:
    """Write a duration: `45 s`, `2 min 05 s`, `1 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
