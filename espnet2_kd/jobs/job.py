"""One command of an array."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

INTERRUPTED = 85  # exit code of a command that has saved its state and wants to be run again, to go on


@dataclass
class Job:
    """A command with its number in the array, its log, and why it failed, if it did."""

    number: int
    log: Path
    argv: list[str]
    reason: str = ""

    @property
    def header(self) -> str:
        """The log's line that names the command, which is also how a finished job is recognised."""
        return f"# {shlex.join(self.argv)}"


def substitute(text: str, name: str | None, number: int | str) -> str:
    """Replace the array's name by the job's number where it is a word of its own."""
    if name is None:
        return text
    return re.sub(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", str(number), text)
