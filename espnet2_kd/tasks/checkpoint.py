"""What happens to a finished training's checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from espnet2_kd.kd.student import student_state


def strip_averaged(exp: Path) -> list[Path]:
    """Remove the training-only parameters from `valid.*.ave*.pth`; returns the files written.

    The files of single epochs keep them: training resumes from those. The mean of one epoch, which ESPnet2 makes a link
    to that epoch's file, becomes a file of its own; links to an averaged file stay links.
    """
    written = []
    for path in sorted(exp.glob("*.ave*.pth")):
        if path.is_symlink() and ".ave" in os.readlink(path):
            continue
        state = torch.load(path, map_location="cpu", weights_only=True)
        kept = student_state(state)
        if len(kept) == len(state):
            continue
        temporary = path.with_suffix(".tmp")
        torch.save(kept, temporary)
        os.replace(temporary, path)
        written.append(path)
    return written
