"""Speak the mini corpus, unless it is there, and write its data directories with transcripts and intents."""

import argparse
import csv
import os
import sys
from pathlib import Path

from grammar import SPLITS
from make_corpus import make_corpus
from voices import MissingVoiceError

from espnet2_kd.data.data_dir import DataDir

SIZES = {"train": 2600, "valid": 200, "test": 300}


def write_data_dirs(corpus: Path, data: Path) -> None:
    """Write `data/<split>` from `corpus.tsv`: text and transcript are the words, label is the intent."""
    with (corpus / "corpus.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    columns = {"text": "text", "transcript": "text", "label": "intent", "utt2spk": "speaker", "utt2dur": "dur"}
    for split in SPLITS:
        part = [row for row in rows if row["split"] == split]
        tables = {name: {row["utt_id"]: row[column] for row in part} for name, column in columns.items()}
        tables["wav.scp"] = {row["utt_id"]: str(corpus / row["path"]) for row in part}
        DataDir(data / split, tables).write(data / split)
        DataDir.read(data / split, need_audio=True)


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
    write_data_dirs(args.out, args.data)


if __name__ == "__main__":
    main()
