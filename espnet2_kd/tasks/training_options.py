"""The options that a training was begun with, so that it is not continued with others by mistake."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any

import yaml

from espnet2_kd.data.table import replacing
from espnet2_kd.kd.registry import ConfigError

KEPT = "options.yaml"
# These may change: they say where, how long, how quickly or how visibly a training runs, not what it computes.
FREE = {
    *("config", "output_dir", "resume", "force_resume", "print_config", "dry_run", "version", "required"),
    *("max_epoch", "patience", "keep_nbest_models", "nbest_averaging_interval", "preflight", "max_skipped_updates"),
    *("save_every_minutes", "save_every_updates", "trust_init_param", "detect_anomaly"),
    *("ngpu", "num_workers", "max_cache_fd", "distributed", "local_rank", "multiprocessing_distributed"),
    *("gradient_as_bucket_view", "log_level", "log_interval", "num_att_plot", "use_matplotlib", "use_tensorboard"),
    *("create_graph_in_tensorboard", "use_wandb"),
}
FREE_PREFIXES = ("dist_", "wandb_")


def require_same_options(args: argparse.Namespace, state: str) -> None:
    """Raise ConfigError, with the difference, where `args.output_dir` holds a `state` of a training with other options.

    What only one of both knows, as after an update of this program, is not compared.
    """
    path = Path(args.output_dir) / KEPT
    if not path.is_file() or not path.with_name(state).exists():
        return
    before, now = yaml.safe_load(path.read_text(encoding="utf-8")), options_of(args)
    both = sorted(before.keys() & now.keys())
    then, this = (yaml.safe_dump({key: side[key] for key in both}).splitlines() for side in (before, now))
    if then == this:
        return
    changes = "\n".join(difflib.unified_diff(then, this, "then", "now", lineterm="", n=1))
    raise ConfigError(
        f"{args.output_dir}: this training was begun with other options:\n{changes}\nRestore them, or move the directory away to "
        "train anew, or go on all the same with --force_resume true"
    )


def keep_options(args: argparse.Namespace) -> None:
    """Write the options to `args.output_dir`; of several processes, the first does."""
    if args.distributed and args.dist_rank:
        return
    with replacing(Path(args.output_dir) / KEPT) as stream:
        yaml.safe_dump(options_of(args), stream)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """What decides what a training computes, as plain YAML types."""
    return {
        name: _plain(value)
        for name, value in sorted(vars(args).items())
        if name not in FREE and not name.startswith(FREE_PREFIXES)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
