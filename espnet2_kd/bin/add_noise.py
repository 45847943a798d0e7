"""Make a noisy copy of a data directory."""

from __future__ import annotations

import argparse

from espnet2_kd.bin.command import end, number, rate


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.add_noise",
        description="Mix every utterance of SOURCE with noise and write TARGET with the same ids and tables. The SNR "
        "compares the mean power of the whole utterance with that of the noise added to it, both without their mean "
        "value; a mixture that would clip is scaled down as a whole. May be interrupted and run again at any time.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("source", help="Kaldi data directory, as data/test")
    parser.add_argument("target", help="directory to write, as data/test_babble_10db")
    parser.add_argument("--snr", type=float, required=True, help="signal-to-noise ratio in dB")
    parser.add_argument(
        "--noise", required=True, metavar="white|DIR|SCP", help="white noise, a folder of recordings, or a scp file"
    )
    parser.add_argument("--noise_split", help="take the recordings that DIR/<noise_split>.tsv lists, as train or test")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other noise")
    parser.add_argument("--fs", type=rate, default="16k", help="sampling rate to write")
    parser.add_argument("--ref_channel", help="channel to take from speech with several (0 is the first), or mix")
    parser.add_argument(
        "--audio_format",
        choices=("flac", "wav", "ark", "flac.ark", "wav.ark"),
        default="flac",
        help="file type (ark: flac.ark)",
    )
    parser.add_argument("--nj", type=number(), default=1, help="number of processes")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    from espnet2_kd.data.noise import NoiseOptions, add_noise

    try:
        options = NoiseOptions(
            snr=args.snr,
            noise=args.noise,
            noise_split=args.noise_split,
            seed=args.seed,
            fs=args.fs,
            audio_format="flac.ark" if args.audio_format == "ark" else args.audio_format,
            ref_channel=args.ref_channel,
        )
    except ValueError as error:
        parser.error(str(error))
    data = add_noise(args.source, args.target, options, args.nj)
    print(f"{args.target}: {len(data.utts)} utterances at {args.snr:g} dB")


if __name__ == "__main__":
    end(main)
