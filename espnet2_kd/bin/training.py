"""What the training commands share."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from espnet2_kd.report.provenance import git_state, write_run


def train(task: Any, program: str, cmd: list[str]) -> None:
    """Train (or, with `--collect_stats true`, collect statistics), leave `run.json`, strip the averaged checkpoints.

    Args:
        task: a task made by `with_kd`.
        program: the module that was called, for the record.
    """
    import torch

    # As a model grows sure of itself its gradients hold ever more numbers too small for the CPU to be quick with. Set
    # before any thread starts, since threads inherit it.
    torch.set_flush_denormal(True)
    started, start = time.time(), git_state()
    task.main(cmd=cmd)
    args = task.get_parser().parse_args(cmd)
    if args.collect_stats or args.dry_run or os.environ.get("RANK", "0") != "0":
        return
    from espnet2_kd.tasks.checkpoint import strip_averaged

    exp = Path(args.output_dir)
    strip_averaged(exp)
    write_run(
        exp,
        config=args.config,
        command=["python", "-m", program, *cmd],
        seed=args.seed,
        distilled=bool(args.kd_terms) or args.pseudo_labels is not None,
        teacher=args.teacher_conf.get("exp"),
        num_parameters=task.num_parameters,
        train_seconds=time.time() - started,
        start=start,
    )
