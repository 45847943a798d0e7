"""How far an array is, on standard error."""

from __future__ import annotations

import os
import re
import sys

from espnet2_kd.jobs.job import Job


class Progress:
    """Shows how far the array is, and the lines of the logs that match a pattern: a bar on a terminal, else lines."""

    def __init__(self, total: int, pattern: str | None) -> None:
        self.total = total
        self.done = 0
        self.pattern = re.compile(pattern) if pattern else None
        self.on_terminal = sys.stderr.isatty()
        self.last_line = ""
        self.offsets: dict[int, int] = {}

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
            return
        done, total = self.done, self.total
        counted = re.search(r"\b(\d+)/(\d+)", self.last_line) if total == 1 else None
        if counted:
            done, total = int(counted[1]), int(counted[2])
        filled = min(20, 20 * done // max(total, 1))
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        text = f"[{'#' * filled}{'.' * (20 - filled)}] {done}/{total} {self.last_line}"
        print(f"\r\033[K{text[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def tell(self, line: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        erase = "\r\033[K" if self.on_terminal else ""
        print(f"{erase}{line}", file=sys.stderr, flush=True)
        self.draw()

    def close(self) -> None:
        if self.on_terminal and (self.pattern or self.total > 1):
            print("\r\033[K", end="", file=sys.stderr, flush=True)
