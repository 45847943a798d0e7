"""How far an array is, on standard error."""

from __future__ import annotations

import os
import re
import sys
import time

from espnet2_kd.jobs.job import Job

LINE_SECONDS = 30.0  # between lines, where there is no terminal


class Progress:
    """Shows how far the array is, and the lines of the logs that match a pattern: a bar on a terminal, else lines."""

    def __init__(self, total: int, pattern: str | None) -> None:
        self.total = total
        self.done = 0
        self.pattern = re.compile(pattern) if pattern else None
        self.on_terminal = sys.stderr.isatty()
        self.last_line = ""
        self.offsets: dict[int, int] = {}
        self.began = self.lined = time.monotonic()
        self.lined_at = 0

    def skip(self, job: Job) -> None:
        """Leave out what a job's log already holds."""
        self.offsets[job.number] = job.log.stat().st_size if job.log.exists() else 0

    def renew(self, job: Job) -> None:
        """Expect a new log from a job."""
        self.offsets.pop(job.number, None)

    def follow(self, job: Job) -> None:
        """Report what a job has logged since the last look."""
        if self.pattern is None:
            return
        offset = self.offsets.get(job.number, 0)
        try:
            with job.log.open("rb") as log:
                if os.fstat(log.fileno()).st_size < offset:
                    offset = 0  # begun anew
                log.seek(offset)
                fresh = log.read()
        except FileNotFoundError:
            return
        complete = fresh.rfind(b"\n") + 1
        self.offsets[job.number] = offset + complete
        for line in fresh[:complete].decode("utf-8", errors="replace").splitlines():
            if not line.startswith("# ") and self.pattern.search(line):
                self.last_line = line
                if not self.on_terminal:
                    print(line, file=sys.stderr, flush=True)
        self.draw()

    def draw(self) -> None:
        if not self.on_terminal:
            self._line()
            return
        done, total = self.done, self.total
        counted = re.search(r"\b(\d+)/(\d+)", self.last_line) if total == 1 else None
        if counted:
            done, total = int(counted[1]), int(counted[2])
        filled = min(20, 20 * done // max(total, 1))
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        text = f"[{'#' * filled}{'.' * (20 - filled)}] {done}/{total}{self._left()} {self.last_line}"
        print(f"\r\033[K{text[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def _line(self) -> None:
        now = time.monotonic()
        if self.total > 1 and self.done > self.lined_at and now - self.lined >= LINE_SECONDS:
            self.lined, self.lined_at = now, self.done
            print(f"run.py: {self.done}/{self.total} jobs{self._left()}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        """The time that the jobs to come will take, if they take as long as those that are done."""
        if self.total == 1 or not 0 < self.done < self.total:
            return ""
        minutes, seconds = divmod(round((time.monotonic() - self.began) / self.done * (self.total - self.done)), 60)
        if minutes >= 60:
            return f", {minutes // 60} h {minutes % 60:02d} min left"
        return f", {minutes} min {seconds:02d} s left" if minutes else f", {seconds} s left"

    def tell(self, line: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        erase = "\r\033[K" if self.on_terminal else ""
        print(f"{erase}{line}", file=sys.stderr, flush=True)
        self.draw()

    def close(self) -> None:
        if self.on_terminal and (self.pattern or self.total > 1):
            print("\r\033[K", end="", file=sys.stderr, flush=True)
