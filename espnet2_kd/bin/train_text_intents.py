"""Fine-tunes a Hugging Face text encoder on the intents of sentences; the result classifies texts, and teaches as any encoder."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from espnet2_kd.bin.command import end, number
from espnet2_kd.slu.text_options import POOLINGS, TextOptions
from espnet2_kd.tasks.config import ArgumentParser

NEEDED = ("model", "train_dir", "valid_dir", "token_list", "output_dir")


def get_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m espnet2_kd.bin.train_text_intents",
        description=f"{__doc__} Options may also stand in the file of --config.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    # Not `required`: the configuration may give them.
    parser.add_argument("--model", help="directory of a text encoder, or its name on the hub")
    parser.add_argument("--train_dir", help="data directory with text and label, as data/train")
    parser.add_argument("--valid_dir", help="data directory by which the best epoch is chosen, as data/valid")
    parser.add_argument("--sentences", help="more to train on: TSV list with the columns text and label")
    parser.add_argument("--token_list", help="all classes slot=value, as data/token_list/labels/tokens.txt")
    parser.add_argument("--output_dir", help="as exp/text_seed1; a training interrupted there is gone on with")
    for option in fields(TextOptions):
        choices = POOLINGS if option.name == "pooling" else None
        parser.add_argument(
            f"--{option.name}",
            type=type(option.default),
            default=option.default,
            choices=choices,
            help=option.metadata["help"],
        )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_threads", type=number(0), default=0, help="CPU threads, 0 leaves it to torch")
    return parser


def options_of(args: argparse.Namespace) -> TextOptions:
    """Raises ConfigError for unusable ones."""
    return TextOptions(**{option.name: getattr(args, option.name) for option in fields(TextOptions)})


def main(cmd: list[str] | None = None) -> int:
    """Train; faults in options and data are said on stderr, status 1."""
    cmd = sys.argv[1:] if cmd is None else cmd
    parser = get_parser()
    args = parser.parse_args(cmd)
    missing = [f"--{name}" for name in NEEDED if getattr(args, name) is None]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")

    from espnet2_kd.data.problems import DataError
    from espnet2_kd.kd.registry import ConfigError

    try:
        train(args, cmd)
    except (ConfigError, DataError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def train(args: argparse.Namespace, cmd: list[str]) -> None:
    """Read, train and save; raises ConfigError or DataError."""
    options = options_of(args)

    from espnet2_kd.slu.text_sentences import read_classes, read_labelled

    classes = read_classes(args.token_list)
    sentences, valid = read_labelled(args.train_dir, args.valid_dir, classes, args.sentences)
    untaught = set(classes).difference(*(sentence.classes for sentence in sentences))
    if untaught:
        print(f"warning: no training sentence of {', '.join(sorted(untaught))}", file=sys.stderr)

    import torch
    from transformers.utils import logging

    from espnet2_kd.report.environment import relative_command
    from espnet2_kd.report.provenance import git_state, machine, versions
    from espnet2_kd.slu.text_training import train_text_model

    logging.disable_progress_bar()
    # As a model grows sure of itself its gradients hold ever more numbers too small for the CPU to be quick with. Set
    # before any thread starts, since threads inherit it.
    torch.set_flush_denormal(True)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    notes = {
        "train_dir": args.train_dir,
        "valid_dir": args.valid_dir,
        "sentences": args.sentences,
        "token_list": args.token_list,
        "config": args.config,
        "seed": args.seed,
        "command": relative_command(["python", "-m", "espnet2_kd.bin.train_text_intents", *cmd]),
        **git_state(),
        "versions": versions(),
        "machine": machine(),
    }
    train_text_model(
        args.model,
        classes,
        sentences,
        valid,
        options,
        args.output_dir,
        args.device,
        notes,
        lambda s: print(s, flush=True),
    )


if __name__ == "__main__":
    end(main)
