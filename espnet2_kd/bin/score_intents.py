"""Score the intents or slots recognised in some sets."""

from __future__ import annotations

import argparse

from espnet2_kd.bin.command import end


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.score_intents",
        description="Exact match (all slots of an utterance right), accuracy of every slot, slot F1 (a slot with value "
        "is `none` or `_none_` counts as absent), 95 % intervals and confusions. Both tables must have the same "
        "utterances and slots.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ref", required=True, nargs="+", help="reference labels, as dump/raw/test/label")
    parser.add_argument("--hyp", required=True, nargs="+", help="recognised labels, a table for each reference")
    parser.add_argument(
        "--output_dir",
        required=True,
        nargs="+",
        help="one for each: gets result.txt, result.json and confusion_<slot>.png for every slot",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(cmd)
    if not len(args.ref) == len(args.hyp) == len(args.output_dir):
        parser.error("give as many --hyp and --output_dir as --ref")
    from espnet2_kd.report.intent_score import format_summary, score_intents

    for ref, hyp, output_dir in zip(args.ref, args.hyp, args.output_dir, strict=True):
        print(format_summary(score_intents(ref, hyp, output_dir), output_dir), flush=True)


if __name__ == "__main__":
    end(main)
