"""Packs a trained model into a zip that ESPnet2 reads: weights, configuration and what it needs; lists what is in it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.asr.model_pack import PackError
from espnet2_kd.asr.pack_writer import write_pack


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it")
    parser.add_argument(
        "--kind", default="asr", choices=("asr", "intent"), help="intents have ESPnet2's shortest names"
    )
    parser.add_argument("--option", action="append", default=[], type=Path, help="one more file that config.yaml names")
    parser.add_argument("--outpath", required=True, type=Path, help="zip to write")
    return parser


def main(cmd: list[str] | None = None) -> int:
    args = get_parser().parse_args(cmd)
    prefix = {"asr": "asr_", "intent": ""}[args.kind]
    try:
        members = write_pack(
            args.outpath,
            {f"{prefix}model_file": args.exp / args.model_file},
            {f"{prefix}train_config": args.exp / "config.yaml"},
            args.option,
        )
    except PackError as error:
        print(error, file=sys.stderr)
        return 1
    for name, size in members.items():
        print(f"{size:>12}  {name}")
    print(f"{args.outpath}: {len(members)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
