"""Validate, fix and reshape Kaldi data directories."""

from __future__ import annotations

import argparse
import sys

from espnet2_kd.bin.command import end, number, rate, true_or_false


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.data_dir", description="Validate, fix and reshape Kaldi data directories."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )

    def flag(sub: argparse.ArgumentParser, name: str, text: str) -> None:
        sub.add_argument(f"--{name}", f"--{name.replace('_', '-')}", action="store_true", help=text)

    sub = verb(
        "validate", "list every problem of directories, and what the first shares with others; status 1 if there is one"
    )
    sub.add_argument("sources", nargs="+", metavar="source")
    flag(sub, "no_text", "text may be missing")
    flag(sub, "no_wav", "do not look for the audio files")
    flag(sub, "allow_empty_text", "only warn of empty transcripts")
    sub.add_argument("--allow_pipes", type=true_or_false, default=False, metavar="true|false")

    sub = verb("fix", "sort, keep what all files have, rebuild spk2utt; the old files go to .backup")
    sub.add_argument("source")
    flag(sub, "normalise", "turn CRLF, BOM, NBSP, tabs and repeated spaces into single spaces")
    sub.add_argument("--allow_pipes", type=true_or_false, default=False, metavar="true|false")

    sub = verb("combine", "write the union of directories")
    sub.add_argument("target")
    sub.add_argument("sources", nargs="+")

    sub = verb("copy", "copy a directory, with prefixes before ids if wanted")
    sub.add_argument("source")
    sub.add_argument("target")
    sub.add_argument("--utt_prefix", "--utt-prefix", default="")
    sub.add_argument("--spk_prefix", "--spk-prefix", default="")

    sub = verb("subset", "keep NUM utterances, or those listed in a file: subset [--first] SOURCE NUM TARGET")
    sub.add_argument("source")
    sub.add_argument("num", nargs="?", type=int)
    sub.add_argument("target")
    how = sub.add_mutually_exclusive_group()
    for name in ("first", "last", "random", "shortest", "speakers", "per_spk"):
        how.add_argument(f"--{name}", f"--{name.replace('_', '-')}", dest="by", action="store_const", const=name)
    how.add_argument("--utt_list", "--utt-list", metavar="FILE")
    how.add_argument("--spk_list", "--spk-list", metavar="FILE")
    sub.add_argument("--seed", type=int, default=0, help="with --random")

    sub = verb("split", "cut into runs of utterances at SOURCE/split<num>utt/<n>")
    sub.add_argument("source")
    sub.add_argument("target", nargs="?", help="folder to write instead")
    sub.add_argument("--num", type=number(), required=True, help="number of parts")

    sub = verb("filter", "drop utterances that are too short, too long or without words")
    sub.add_argument("source")
    sub.add_argument("target")
    sub.add_argument("--min_wav_duration", type=float, default=0.1, help="seconds")
    sub.add_argument("--max_wav_duration", type=float, default=20.0, help="seconds")
    sub.add_argument("--fs", type=rate, help="sampling rate, for a directory with utt2num_samples but no utt2dur")
    flag(sub, "keep_empty_text", "keep utterances without words")

    sub = verb("state", "print one word that changes with the size or the date of any recording")
    sub.add_argument("source")

    sub = verb("spk2utt", "write spk2utt from utt2spk")
    sub.add_argument("source", help="data directory, or an utt2spk file to print as spk2utt")
    sub = verb("utt2spk", "write utt2spk from spk2utt")
    sub.add_argument("source", help="data directory, or a spk2utt file to print as utt2spk")
    return parser


def _validate(args: argparse.Namespace) -> int:
    from espnet2_kd.data.check import check_data_dir
    from espnet2_kd.data.overlap import overlaps
    from espnet2_kd.data.problems import count_line

    sources, fatal = list(dict.fromkeys(args.sources)), False
    for source in sources:
        problems = check_data_dir(
            source,
            need_text=not args.no_text,
            need_audio=not args.no_wav,
            allow_empty_text=args.allow_empty_text,
            allow_pipes=args.allow_pipes,
        )
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"{source}: {count_line(problems)}", file=sys.stderr)
        fatal = fatal or any(problem.fatal for problem in problems)
    shared = overlaps(sources[0], sources[1:]) if not fatal else []
    for problem in shared:
        print(problem, file=sys.stderr)
    return int(fatal or any(problem.fatal for problem in shared))


def _fix(args: argparse.Namespace) -> None:
    from espnet2_kd.data.repair import fix_data_dir

    report = fix_data_dir(args.source, normalise=args.normalise, allow_pipes=args.allow_pipes)
    for line in report or ["nothing dropped"]:
        print(f"{args.source}: {line}")


def _combine(args: argparse.Namespace) -> None:
    from espnet2_kd.data.reshape import combine

    data, left_out = combine(args.sources, args.target)
    for name in left_out:
        print(f"{args.target}: no {name}, because not all of the directories have one")
    print(f"{args.target}: {len(data.utts)} utterances")


def _copy(args: argparse.Namespace) -> None:
    from espnet2_kd.data.reshape import copy

    print(f"{args.target}: {len(copy(args.source, args.target, args.utt_prefix, args.spk_prefix).utts)} utterances")


def _subset(args: argparse.Namespace) -> None:
    from espnet2_kd.data.reshape import select, subset

    keys = args.utt_list or args.spk_list
    if keys:
        data = select(args.source, args.target, keys, by_speaker=args.spk_list is not None)
    else:
        data = subset(args.source, args.target, args.num, args.by or "first", args.seed)
    print(f"{args.target}: {len(data.utts)} utterances")


def _split(args: argparse.Namespace) -> None:
    from espnet2_kd.data.reshape import split

    for data in split(args.source, args.num, args.target):
        print(f"{data.path}: {len(data.utts)} utterances")


def _filter(args: argparse.Namespace) -> None:
    from espnet2_kd.data.length_filter import describe_dropped, filter_data_dir

    dropped = filter_data_dir(
        args.source, args.target, args.min_wav_duration, args.max_wav_duration, args.keep_empty_text, args.fs
    )
    print(f"{args.target}: dropped {sum(map(len, dropped.values()))} of {args.source}")
    for line in describe_dropped(dropped):
        print(f"{args.target}: {line}")


def _state(args: argparse.Namespace) -> None:
    from espnet2_kd.data.data_dir import DataDir
    from espnet2_kd.data.entry import audio_path, is_command
    from espnet2_kd.data.parts import file_state, fingerprint

    entries = DataDir.read_unchecked(args.source).tables.get("wav.scp", {}).values()
    paths = sorted({audio_path(entry.strip()) for entry in entries if not is_command(entry)})
    print(fingerprint([(str(path), file_state(path)) for path in paths]))


def _invert(args: argparse.Namespace) -> None:
    from pathlib import Path

    from espnet2_kd.data.data_dir import spk2utt, utt2spk
    from espnet2_kd.data.table import read_table, write_table

    invert, other = (spk2utt, "utt2spk") if args.verb == "spk2utt" else (utt2spk, "spk2utt")
    source = Path(args.source)
    table = invert(read_table(source / other if source.is_dir() else source))
    if source.is_dir():
        write_table(source / args.verb, table)
    else:
        sys.stdout.writelines(f"{key} {table[key]}\n" for key in sorted(table))


def main(argv: list[str] | None = None) -> int | None:
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.verb == "subset" and (args.num is None) == (args.utt_list is None and args.spk_list is None):
        parser.error("subset takes either NUM or --utt_list or --spk_list")
    run = {
        "validate": _validate,
        "fix": _fix,
        "combine": _combine,
        "copy": _copy,
        "subset": _subset,
        "split": _split,
        "filter": _filter,
        "state": _state,
        "spk2utt": _invert,
        "utt2spk": _invert,
    }
    return run[args.verb](args)


if __name__ == "__main__":
    end(main)
