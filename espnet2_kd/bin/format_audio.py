"""Format the audio of a data directory: one rate, one channel, one file type, sound files checked."""

from __future__ import annotations

import argparse

from espnet2_kd.bin.command import end, number, rate, true_or_false


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.format_audio",
        description="Read every utterance of SOURCE and write it, checked and resampled, below TARGET. Unreadable "
        "audio is listed in full, and stops the run. May be interrupted and run again at any time.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("source", help="Kaldi data directory, as data/train")
    parser.add_argument("target", help="directory to write, as dump/raw/org/train")
    parser.add_argument("--fs", type=rate, default="16k", help="sampling rate to write")
    parser.add_argument(
        "--audio_format",
        choices=("flac", "wav", "ark", "flac.ark", "wav.ark"),
        default="flac",
        help="file type (ark: flac.ark)",
    )
    parser.add_argument("--nj", type=number(), default=1, help="number of processes")
    parser.add_argument(
        "--speed_perturb_factors", default="1.0", help="speeds separated by spaces; 0.9 makes copies named sp0.9-<id>"
    )
    parser.add_argument(
        "--ref_channel", help="channel to take from files with several (0 is the first), or mix for their mean"
    )
    parser.add_argument(
        "--skip_bad_audio",
        type=number(0),
        default=0,
        metavar="N",
        help="leave out up to N bad recordings, with a report",
    )
    parser.add_argument(
        "--allow_pipes", type=true_or_false, default=False, metavar="true|false", help="run the commands in wav.scp"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    from espnet2_kd.data.format import FormatOptions, format_audio

    try:
        options = FormatOptions(
            fs=args.fs,
            audio_format="flac.ark" if args.audio_format == "ark" else args.audio_format,
            speed_perturb_factors=tuple(args.speed_perturb_factors.split()),
            ref_channel=args.ref_channel,
            allow_pipes=args.allow_pipes,
        )
    except ValueError as error:
        parser.error(str(error))
    data = format_audio(args.source, args.target, options, args.nj, args.skip_bad_audio)
    hours = sum(map(float, data.tables["utt2dur"].values())) / 3600
    print(f"{args.target}: {len(data.utts)} utterances, {hours:.2f} h, {args.audio_format} at {args.fs} Hz")


if __name__ == "__main__":
    end(main)
