"""Files of JSON lines that grow while work is done, and are whole again after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from espnet2_kd.data.problems import one_problem
from espnet2_kd.data.table import replacing


class Journal:
    """One entry per line. A killed process loses at most the line it was writing, which nobody reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Any]:
        """Return the entries of all whole lines, none where there is no file; raises DataError for a damaged line."""
        if not self.path.is_file():
            return []
        content = self.path.read_bytes()
        entries = []
        for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
            try:
                entries.append(json.loads(line))
            except ValueError:
                raise one_problem(self.path, "is damaged", "move the file away", number) from None
        return entries

    def append(self, *entries: Any) -> None:
        """Add entries; they are on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as stream:
            end = stream.seek(0, os.SEEK_END)
            if end and os.pread(stream.fileno(), 1, end - 1) != b"\n":
                stream.truncate(self.path.read_bytes().rfind(b"\n") + 1)
            stream.write(_lines(entries).encode())
            stream.flush()
            os.fsync(stream.fileno())

    def rewrite(self, *entries: Any) -> None:
        """Replace all entries, at once."""
        with replacing(self.path) as stream:
            stream.write(_lines(entries))


def _lines(entries: Iterable[Any]) -> str:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
