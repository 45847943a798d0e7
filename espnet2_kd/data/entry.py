"""The right side of a wav.scp line: a path, `archive.ark:offset`, or a command with a pipe."""

from __future__ import annotations

import re
from pathlib import Path

_ARK = re.compile(r"^(.+\.ark):(\d+)$")


def is_command(entry: str) -> bool:
    """Tell whether Kaldi would run the entry as a command."""
    return entry.endswith("|") or entry.startswith("|")


def ark_entry(entry: str) -> tuple[str, int] | None:
    """Give archive and byte offset of an entry that points into an archive."""
    ark = _ARK.match(entry)
    return (ark.group(1), int(ark.group(2))) if ark else None


def audio_path(entry: str) -> Path:
    """Give the file of an entry that is not a command."""
    ark = ark_entry(entry)
    return Path(ark[0] if ark else entry)
