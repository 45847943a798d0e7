"""List recordings of noise for a training that hears them beside speech."""

from __future__ import annotations

import argparse

from espnet2_kd.bin.command import end, rate


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.noise_list",
        description="Write OUTPUT/wav.scp, for the option noise_scp of an ESPnet2 training, and copies of the recordings that it "
        "names. Every source has the same share of the lines.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="white|NAME=DIR", help="white noise, or a folder of recordings")
    parser.add_argument("--split", default="train", help="take what DIR/<split>.tsv lists, where there is such a list")
    parser.add_argument("--fs", type=rate, default="16k", help="sampling rate of the copies")
    parser.add_argument("--output", required=True, help="directory to write, as data/noise")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    from espnet2_kd.data.noise_list import write_noise_list

    count = write_noise_list(args.output, args.sources, args.split, args.fs)
    print(f"{args.output}: {count} recordings of {len(args.sources)} noises")


if __name__ == "__main__":
    end(main)
