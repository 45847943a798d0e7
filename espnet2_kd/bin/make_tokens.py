"""Make a token list from training text, and report what it does not cover."""

from __future__ import annotations

import argparse

from espnet2_kd.bin.command import end, number


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.make_tokens",
        description="Write tokens.txt (first <blank> and <unk>, last <sos/eos>) and, for bpe, bpe.model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--token_type", choices=("bpe", "char", "word", "hugging_face"), default="bpe")
    parser.add_argument(
        "--text", nargs="+", action="extend", required=True, help="Kaldi text files to make tokens from"
    )
    parser.add_argument("--output_dir", required=True, help="as data/token_list/bpe_unigram100")
    parser.add_argument("--nbpe", type=number(), default=30, help="number of BPE tokens, the special ones included")
    parser.add_argument("--bpemode", choices=("unigram", "bpe", "char", "word"), default="unigram")
    parser.add_argument("--bpe_char_cover", type=float, default=1.0, help="share of characters BPE must cover")
    parser.add_argument("--nlsyms_txt", help="file of symbols that stay whole, one per line (bpe, char)")
    parser.add_argument("--hf_model", help="Hugging Face tokenizer: a folder or a model name")
    parser.add_argument("--hf_revision", help="commit of the Hugging Face model, so that it cannot change")
    parser.add_argument(
        "--hf_vocabulary", choices=("full", "seen"), default="full", help="all word pieces, or those in the text"
    )
    parser.add_argument(
        "--check_text", nargs="+", action="extend", default=[], help="further text files for the report"
    )
    parser.add_argument("--max_oov", type=float, default=0.1, help="fail above this share of unknown tokens, 0 to 1")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    from espnet2_kd.data.token_list import TokenOptions, make_tokens

    try:
        options = TokenOptions(
            token_type=args.token_type,
            nbpe=args.nbpe,
            bpemode=args.bpemode,
            bpe_char_cover=args.bpe_char_cover,
            nlsyms=args.nlsyms_txt,
            hf_model=args.hf_model,
            hf_revision=args.hf_revision,
            hf_vocabulary=args.hf_vocabulary,
        )
    except ValueError as error:
        parser.error(str(error))
    tokens, reports = make_tokens(args.text, args.output_dir, options, args.check_text, args.max_oov)
    print(f"{args.output_dir}: {len(tokens.tokens)} {args.token_type} tokens")
    for report in reports:
        print(f"{report.file}: {report}")


if __name__ == "__main__":
    end(main)
