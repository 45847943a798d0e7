"""Speak the mini corpus, unless it is there, and write its data directories with transcripts and intents."""

import argparse
import os
import sys
from pathlib import Path

from grammar import SPLITS
from make_corpus import make_corpus
from voices import MissingVoiceError

from espnet2_kd.data.importer import ImportOptions, import_tsv

SIZES = {"train": 2600, "valid": 200, "test": 300}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("downloads/mini"), help="where the audio goes")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the data directories go")
    for split, size in SIZES.items():
        parser.add_argument(f"--num_{split}", type=int, default=size, help=f"{split} utterances")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another corpus")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="parallel processes")
    args = parser.parse_args()
    sizes = {split: getattr(args, f"num_{split}") for split in SPLITS}
    if min(sizes.values()) < 1 or args.nj < 1:
        parser.error("--num_train, --num_valid, --num_test and --nj must be at least 1")
    try:
        new = make_corpus(args.out, sizes, args.seed, args.nj)
    except MissingVoiceError as error:
        sys.exit(str(error))
    print(f"mini corpus: {sum(sizes.values())} utterances {'spoken' if new else 'are already there'} in {args.out}")
    import_tsv([args.out / "corpus.tsv"], args.data, ImportOptions())


if __name__ == "__main__":
    main()
