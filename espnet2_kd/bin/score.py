"""Score one decoded set with sclite."""

from __future__ import annotations

import argparse

from espnet2_kd.bin.command import end, true_or_false


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.score",
        description="Word, character and token error rates by sclite. Texts are compared in Unicode NFC; words that "
        "sclite would interpret are escaped as %XX in both files; utterance ids of both sides must be the same.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ref", required=True, help="reference text, as dump/raw/test/text")
    parser.add_argument("--hyp", required=True, help="recognised text")
    parser.add_argument("--utt2spk", required=True, help="speakers of the reference")
    parser.add_argument("--output_dir", required=True, help="gets score_{wer,cer,ter}/ and score.json")
    parser.add_argument("--token_dir", help="token list for the token error rate, as data/token_list/bpe_unigram100")
    parser.add_argument(
        "--case_sensitive", type=true_or_false, default=False, help="count words wrong by case only as errors"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    from espnet2_kd.report.score import format_summary, score_set

    scores = score_set(args.ref, args.hyp, args.utt2spk, args.output_dir, args.token_dir, args.case_sensitive)
    print(format_summary(scores, args.output_dir))


if __name__ == "__main__":
    end(main)
