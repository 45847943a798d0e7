"""The status file of a task, written on its node and read by the driver."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """What a task's node says of it.

    state: `submitted` by the driver, `running`, or `ended`.
    returncode: as `subprocess` has it: negative for the signal that ended the command.
    began, ended: seconds since 1970.
    attempt: how often it was started under this submission; a scheduler starts a preempted task again.
    """

    state: str
    host: str = ""
    task: str = ""
    attempt: int = 0
    began: float = 0.0
    ended: float = 0.0
    returncode: int | None = None


def write(path: Path, record: Record) -> None:
    """Write a record; whoever reads meets the old one or the new one, whole."""
    write_whole(path, json.dumps(asdict(record)))


def read(path: Path) -> Record | None:
    """Read a record; None where there is none, or one of another version of this program."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def write_whole(path: Path, text: str) -> None:
    """Write a file that only its owner may read, under a temporary name first, so that it is never seen in part."""
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(number, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
