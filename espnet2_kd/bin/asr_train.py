"""Trains a speech recogniser, distilled or not: every option of `espnet2.bin.asr_train`, and the distillation options."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from espnet2_kd.report.provenance import git_state, write_run


def main(cmd: list[str] | None = None) -> None:
    """Train (or, with `--collect_stats true`, collect statistics), leave `run.json`, strip the averaged checkpoints."""
    cmd = sys.argv[1:] if cmd is None else cmd
    import torch

    from espnet2_kd.tasks.asr import KDASRTask

    # As a model grows sure of itself its gradients hold ever more numbers too small for the CPU to be quick with. Set
    # before any thread starts, since threads inherit it.
    torch.set_flush_denormal(True)
    started, start = time.time(), git_state()
    KDASRTask.main(cmd=cmd)
    args = KDASRTask.get_parser().parse_args(cmd)
    if args.collect_stats or args.dry_run or os.environ.get("RANK", "0") != "0":
        return
    from espnet2_kd.tasks.checkpoint import strip_averaged

    exp = Path(args.output_dir)
    strip_averaged(exp)
    write_run(
        exp,
        config=args.config,
        command=["python", "-m", "espnet2_kd.bin.asr_train", *cmd],
        seed=args.seed,
        distilled=bool(args.kd_terms) or args.pseudo_labels is not None,
        teacher=args.teacher_conf.get("exp"),
        num_parameters=KDASRTask.num_parameters,
        train_seconds=time.time() - started,
        start=start,
    )


if __name__ == "__main__":
    main()
