"""Speak the mini corpus, unless it is there, and write its data directories with transcripts and intents."""

import argparse
import os
import sys
from pathlib import Path

from grammar import SPLITS
from plan import plan

from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.importer import ImportOptions, import_tsv
from espnet2_kd.data.spoken import note_spoken, speak_corpus

SIZES = {"train": 2600, "valid": 200, "test": 300}
TINY_SIZES = {"train": 48, "valid": 12, "test": 12}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("downloads/mini"), help="where the audio goes (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    for split, size in SIZES.items():
        parser.add_argument(f"--num_{split}", type=int, help=f"{split} utterances (default: {size})")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another corpus (default: %(default)s)")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="parallel processes (default: %(default)s)")
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    defaults = TINY_SIZES if args.synthetic == "true" else SIZES
    given = {split: getattr(args, f"num_{split}") for split in SPLITS}
    sizes = {split: defaults[split] if given[split] is None else given[split] for split in SPLITS}
    if min(sizes.values()) < 1 or args.nj < 1:
        parser.error("--num_train, --num_valid, --num_test and --nj must be at least 1")
    try:
        new = speak_corpus(args.out, plan(sizes, args.seed), {"sizes": sizes}, args.seed, args.nj)
    except EspeakError as error:
        sys.exit(str(error))
    print(f"mini corpus: {sum(sizes.values())} utterances {'spoken' if new else 'are already there'} in {args.out}")
    import_tsv([args.out / "corpus.tsv"], args.data, ImportOptions())
    note_spoken(args.data, True)


if __name__ == "__main__":
    main()
