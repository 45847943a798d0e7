"""Score the intents or slots recognised in one set."""

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
    parser.add_argument("--ref", required=True, help="reference labels, as dump/raw/test/label")
    parser.add_argument("--hyp", required=True, help="recognised labels")
    parser.add_argument(
        "--output_dir", required=True, help="gets result.txt, result.json and confusion_<slot>.png for every slot"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    from espnet2_kd.report.intent_score import format_summary, score_intents

    print(format_summary(score_intents(args.ref, args.hyp, args.output_dir), args.output_dir))


if __name__ == "__main__":
    end(main)
