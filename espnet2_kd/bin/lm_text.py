"""Cut text into tokens for a language model over the same tokens as a recogniser."""

from __future__ import annotations

import argparse

from espnet2_kd.bin.command import end


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.lm_text",
        description="Write text, tokens with blanks between, and text_shape.word: with both, ESPnet2's lm_train needs no statistics.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--text", nargs="+", required=True, help="Kaldi text files: an id, then words")
    parser.add_argument("--no_ids", action="store_true", help="lines are sentences, without an id in front")
    parser.add_argument("--token_dir", required=True, help="as data/token_list/bpe_unigram100")
    parser.add_argument("--output_dir", required=True, help="where to write")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    from pathlib import Path

    from espnet2_kd.data.documents import read_text
    from espnet2_kd.data.problems import one_problem
    from espnet2_kd.data.table import write_table
    from espnet2_kd.data.token_list import read_words
    from espnet2_kd.data.tokenizer import TokenSet

    tokens = TokenSet.load(args.token_dir)
    lines = []
    for path in args.text:
        if args.no_ids:
            lines += [" ".join(line.split()) for line in read_text(path).splitlines() if line.strip()]
        else:
            lines += read_words(path)
    if not lines:
        raise one_problem(args.text[0], "no words in the file", "give some text")
    cut = {f"line{number:09d}": tokens.tokenizer.text2tokens(line) for number, line in enumerate(lines)}
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_table(output_dir / "text", {key: " ".join(found) for key, found in cut.items()})
    write_table(
        output_dir / "text_shape.word", {key: f"{len(found)},{len(tokens.tokens)}" for key, found in cut.items()}
    )
    print(f"{output_dir}: {len(cut)} lines, {sum(map(len, cut.values()))} tokens")


if __name__ == "__main__":
    end(main)
