"""List, or drop, utterances that have more labels than encoder frames."""

from __future__ import annotations

import argparse
import sys

from espnet2_kd.bin.command import SECONDS, end


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.check_labels",
        description="CTC cannot align more labels than frames, and trains on such utterances without a word.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data_dir", required=True, help="Kaldi data directory, as dump/raw/train")
    parser.add_argument("--token_dir", required=True, help="as data/token_list/bpe_unigram100")
    parser.add_argument("--frame_ms", type=SECONDS, default=40.0, help="distance of encoder frames in ms")
    parser.add_argument("--drop", action="store_true", help="remove them from the directory instead of failing")
    parser.add_argument("--shapes", action="store_true", help="write what ESPnet2 makes batches by: *_shape files")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    from espnet2_kd.data.data_dir import DataDir
    from espnet2_kd.data.labels import long_labels, write_shapes
    from espnet2_kd.data.problems import DataError, Problem, one_problem
    from espnet2_kd.data.table import read_rows
    from espnet2_kd.data.tokenizer import TokenSet

    data = DataDir.read(args.data_dir, allow_empty_text=True)
    tokens = TokenSet.load(args.token_dir)
    found = long_labels(data, tokens, args.frame_ms)
    text = data.path / "text"
    lines = {row.key: row.line for row in read_rows(text, [])}
    remedy = "dropped" if args.drop else "correct the text or the audio, or add --drop"
    problems = [
        Problem(str(text), lines[f.utt], f.utt, f"labels need {f.needed} frames, the encoder gives {f.frames}", remedy)
        for f in found
    ]
    if len(found) == len(data.utts):
        raise one_problem(text, f"all {len(found)} utterances have too many labels", "check --frame_ms and the tokens")
    if problems and not args.drop:
        raise DataError(problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        gone = {f.utt for f in found}
        data = data.only([utt for utt in data.utts if utt not in gone]).write(data.path)
    if args.shapes:
        write_shapes(data, tokens)
    print(f"{data.path}: {len(data.utts)} utterances kept, {len(found)} with too many labels")


if __name__ == "__main__":
    end(main)
