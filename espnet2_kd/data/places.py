"""Where a corpus may already lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def usual_places(names: Sequence[str]) -> list[Path]:
    """Return the folders of these names below `$KD_DATA`, then below `shared/data` beside the project, if they exist."""
    parents = [Path(os.environ["KD_DATA"])] if os.environ.get("KD_DATA") else []
    parents.append(PROJECT.parent / "shared" / "data")
    return [parent / name for parent in parents for name in names if (parent / name).is_dir()]
