"""Make Kaldi data directories from TSV files of utterances."""

from __future__ import annotations

import argparse
import os

from espnet2_kd.bin.command import end, number, rate


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.import_tsv",
        description="Columns, in any order, named by a header line: utt_id speaker path [text] [intent] [split]; other "
        "columns are ignored. Each split becomes a directory below DATA. With --strings, the recordings of the "
        "TSV files are joined to new utterances instead.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("tsv", nargs="+", help="TSV file")
    parser.add_argument("data", help="folder of data directories, as data")
    parser.add_argument("--audio_root", help="folder where paths start; default: that of the TSV file")
    parser.add_argument("--text_column", default="text", help="column of the words")
    parser.add_argument(
        "--intent_column", default="intent", help="column of the intent, or several in quotes, one for each slot"
    )
    parser.add_argument("--only", default="", metavar="SPLITS", help="import these splits, in quotes; default: all")
    parser.add_argument("--rename", default="", metavar="SPLIT=SET", help='other names for the sets, as "dev=valid"')
    parser.add_argument("--set", help="name of the set for lines without a split; default: that of the TSV file")
    parser.add_argument("--strings", help="TSV list: string_id speaker text utt_ids gaps_ms; needs --set")
    parser.add_argument("--joined_dir", help="with --strings: folder of the joined audio; default: DATA/SET/joined")
    parser.add_argument("--fs", type=rate, default="16k", help="with --strings: sampling rate of the joined audio")
    parser.add_argument("--nj", type=number(), default=1, help="with --strings: number of processes")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    if os.path.isfile(args.data):
        parser.error(f"{args.data}: is a file: the last word is the folder of data directories, as data")
    if args.strings and not args.set:
        parser.error("--strings needs --set")
    if not all("=" in pair.strip("=") for pair in args.rename.split()):
        parser.error("--rename takes SPLIT=SET")
    if args.strings:
        from espnet2_kd.data.join import join_tsv

        joined_dir = args.joined_dir or f"{args.data}/{args.set}/joined"
        made = [join_tsv(args.strings, args.tsv, args.data, args.set, joined_dir, args.fs, args.nj, args.audio_root)]
    else:
        from espnet2_kd.data.importer import ImportOptions, import_tsv

        options = ImportOptions(
            audio_root=args.audio_root,
            text_column=args.text_column,
            intent_columns=tuple(args.intent_column.split()),
            only=tuple(args.only.split()),
            rename=dict(pair.split("=", 1) for pair in args.rename.split()),
            default_set=args.set,
        )
        made = import_tsv(args.tsv, args.data, options)
    from espnet2_kd.data.import_record import record_import

    for data in made:
        speakers = len(set(data.tables["utt2spk"].values()))
        print(f"{data.path}: {len(data.utts)} utterances, {speakers} speakers, {' '.join(sorted(data.tables))}")
        if "text" not in data.tables and not args.strings:
            print(
                f"{data.path}: no transcripts: no table has a column {args.text_column} with words in it (--text_column names another)"
            )
    tables, part = [*args.tsv, *filter(None, [args.strings])], f"{args.only} {args.set or ''}".strip()
    for gone in record_import(args.data, tables, part, [data.path.name for data in made]):
        print(f"{gone}: removed, since these tables make it no more")


if __name__ == "__main__":
    end(main)
