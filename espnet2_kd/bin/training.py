"""What the training commands share."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from espnet2_kd.report.provenance import git_state, write_run


def run_task(task: Any, cmd: list[str]) -> argparse.Namespace | None:
    """Train, or with `--collect_stats true` collect statistics; what the user can mend is said without a traceback, exit code 1.

    Args:
        task: a task made by `guarded`.

    Returns:
        The options, where a training has come to its end and this process is the one to go on.
    """
    import torch
    from espnet2.train.distributed_utils import get_rank
    from torch.multiprocessing import ProcessExitedException

    from espnet2_kd.asr.load import ExperimentError
    from espnet2_kd.asr.model_pack import PackError
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.tasks.interruption import INTERRUPTED, SIGNALS, Interrupted, caught
    from espnet2_kd.tasks.training_error import TrainingError
    from espnet2_kd.tasks.training_state import DiskFull

    # As a model grows sure of itself its gradients hold ever more numbers too small for the CPU to be quick with. Set
    # before any thread starts, since threads inherit it.
    torch.set_flush_denormal(True)
    # ESPnet2's business, of which its users would read in every log.
    warnings.filterwarnings("ignore", "`torch.cuda.amp.autocast", FutureWarning)
    try:
        task.main(cmd=cmd)
    except (ConfigError, DataError, ExperimentError, PackError, TrainingError, DiskFull) as error:
        logging.error("%s", error)
        sys.exit(1)
    except ProcessExitedException as error:
        # One of the processes, one per GPU, that this one waits for.
        early = caught() is not None and error.exit_code in [-number for number in SIGNALS]
        if early or error.exit_code == INTERRUPTED:
            raise Interrupted from error
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # a process may hang at its exit otherwise
    args = task.get_parser().parse_args(cmd)
    others_rank = get_rank(args.dist_rank, args.dist_launcher)
    return None if args.collect_stats or args.dry_run or others_rank else args


def train(task: Any, program: str, cmd: list[str]) -> None:
    """As `run_task`; a finished training leaves `run.json`, and its averaged checkpoints are stripped.

    Args:
        task: a task made by `with_kd`.
        program: the module that was called, for the record.
    """
    started, start = time.time(), git_state()
    args = run_task(task, cmd)
    if args is None:
        return
    from espnet2_kd.tasks.checkpoint import strip_averaged

    exp = Path(args.output_dir)
    strip_averaged(exp)
    write_run(
        exp,
        config=args.config,
        command=["python", "-m", program, *cmd],
        seed=args.seed,
        distilled=bool(args.kd_terms or args.teacher_init) or args.pseudo_labels is not None,
        teacher=args.teacher_conf.get("exp"),
        num_parameters=task.num_parameters,
        train_seconds=time.time() - started,
        start=start,
    )
