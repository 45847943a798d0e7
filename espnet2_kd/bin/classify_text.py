"""Writes the intents that a trained text model finds in the sentences of a data directory, and how probable they are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import end, number


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.classify_text",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of train_text_intents, as exp/text_seed1")
    parser.add_argument("--data_dir", required=True, type=Path, help="data directory; only its text is read")
    parser.add_argument("--output_dir", required=True, type=Path, help="for the tables label and probability")
    parser.add_argument("--batch_size", type=number(), default=64, help="sentences in a padded batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_threads", type=number(0), default=0, help="CPU threads, 0 leaves it to torch")
    return parser


def main(cmd: list[str] | None = None) -> int:
    """Classify; faults in model and data are said on stderr, status 1."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.kd.registry import ConfigError

    try:
        classify(args)
    except (ConfigError, DataError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def classify(args: argparse.Namespace) -> None:
    """Read, classify and write; raises ConfigError or DataError before anything is written."""
    import torch
    from transformers.utils import logging

    from espnet2_kd.data.intents import label_line
    from espnet2_kd.data.problems import require_two_places
    from espnet2_kd.data.table import write_table
    from espnet2_kd.slu.text_model import TextIntentModel
    from espnet2_kd.slu.text_sentences import pieces_of, read_texts

    require_two_places(args.data_dir, args.output_dir)
    logging.disable_progress_bar()
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    sentences = read_texts(args.data_dir)
    model = TextIntentModel.load(args.model).to(args.device)
    answers = model.answers(pieces_of(model, sentences), args.batch_size)
    labels, probabilities = {}, {}
    for sentence, answer in zip(sentences, answers, strict=True):
        labels[sentence.utt] = label_line({slot: value for slot, (value, _) in answer.items()})
        probabilities[sentence.utt] = " ".join(f"{probability:.4f}" for _, probability in answer.values())
    write_table(args.output_dir / "probability", probabilities)
    write_table(args.output_dir / "label", labels)
    print(f"{args.output_dir}: {len(labels)} sentences, {len(model.slots)} slots")


if __name__ == "__main__":
    end(main)
