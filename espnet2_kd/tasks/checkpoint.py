"""Checkpoints of distilled students: without their heads for inference, with them for a look at what was learned."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from espnet2_kd.asr.load import find_model, load_model, read_weights
from espnet2_kd.kd.student import KD_PREFIX, student_state


def load_student(exp: Path, model_file: str) -> tuple[torch.nn.Module, argparse.Namespace]:
    """As `load_model`; where the checkpoint still has distillation heads, with these and with the teacher."""
    from espnet2_kd.tasks.asr import KDASRTask

    heads = any(key.startswith(KD_PREFIX) for key in read_weights(find_model(exp, model_file)[1]))
    return load_model(exp, model_file, task=KDASRTask if heads else "asr", heads=heads)


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
