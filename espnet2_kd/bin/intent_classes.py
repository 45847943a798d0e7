"""Writes the classes of an intent corpus as a token list, `slot=value` each, after a check of all its labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2_kd.bin.command import end


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.intent_classes",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--train", required=True, help="data directory whose labels are the classes")
    parser.add_argument("--others", nargs="*", default=[], help="data directories that hold no other ones")
    parser.add_argument("--output", required=True, help="as data/token_list/label/tokens.txt")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    from espnet2_kd.data.intents import check_label_sets, label_classes
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.data.table import replacing

    problems = check_label_sets(args.train, args.others)
    if problems:
        raise DataError(problems)
    classes = label_classes(args.train)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.output) as stream:
        # The task wants a name for what is unknown, and wants it last.
        stream.writelines(f"{name}\n" for name in (*classes, "<unk>"))
    print(f"{args.output}: {len(classes)} classes")


if __name__ == "__main__":
    end(main)
