"""Keeps what a frozen recogniser hears in a data directory, slowed down, for classifiers that are trained on it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import SECONDS, number, one_line_errors
from espnet2_kd.data.problems import require_two_places


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory of the recogniser, or its pack")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it")
    parser.add_argument("--slow_rate", type=number(), default=1, help="how many of its frames make one")
    parser.add_argument(
        "--hf_model", help="also say when each word piece of this tokenizer was spoken (folder or name on the hub)"
    )
    parser.add_argument("--data_dir", required=True, nargs="+", type=Path, help="formatted speech")
    parser.add_argument(
        "--output_dir", required=True, nargs="+", type=Path, help="one for each; made before: left alone"
    )
    parser.add_argument("--batch_seconds", type=SECONDS, default=120.0, help="audio in a padded batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_threads", type=number(0), default=0, help="CPU threads, 0 leaves it to torch")
    return parser


def main(cmd: list[str] | None = None) -> int:
    parser = get_parser()
    args = parser.parse_args(cmd)
    if len(args.data_dir) != len(args.output_dir):
        parser.error("give as many --output_dir as --data_dir")
    return one_line_errors(extract, args)


def extract(args: argparse.Namespace) -> None:
    """Write; raises ConfigError, DataError or ExperimentError."""
    import torch

    from espnet2_kd.slu.frames import AcousticFrames, write_frames
    from espnet2_kd.slu.sentence import SentenceReader

    for data_dir, output_dir in zip(args.data_dir, args.output_dir, strict=True):
        require_two_places(data_dir, output_dir)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    reader = SentenceReader(args.hf_model) if args.hf_model else None
    acoustic = AcousticFrames(args.exp, args.model_file, args.slow_rate, reader, args.device)
    for data_dir, output_dir in zip(args.data_dir, args.output_dir, strict=True):
        num = write_frames(acoustic, data_dir, output_dir, args.batch_seconds)
        print(f"{output_dir}: frames of {num} utterances", flush=True)


if __name__ == "__main__":
    sys.exit(main())
