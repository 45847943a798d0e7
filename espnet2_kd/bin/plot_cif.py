"""Draws what a CIF recogniser does with utterances: when tokens fire, and how its tokens resemble the teacher's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import number, one_line_errors


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory")
    parser.add_argument(
        "--model_file",
        default="valid.acc.ave.pth",
        help="checkpoint in it, or a path; that of an epoch, such as latest.pth, still has the heads that compare with the teacher",
    )
    parser.add_argument(
        "--data_dir", required=True, type=Path, help="formatted speech, with text to compare with a teacher"
    )
    parser.add_argument("--utts", nargs="+", help="which utterances; the first ones otherwise")
    parser.add_argument("--num_utts", type=number(), default=3, help="how many of the first")
    parser.add_argument("--output_dir", required=True, type=Path, help="where the pictures go")
    return parser


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(plot, get_parser().parse_args(cmd))


def plot(args: argparse.Namespace) -> None:
    """Draw; raises ConfigError, DataError or ExperimentError."""
    import torch

    from espnet2_kd.asr.load import sample_rate
    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.tasks.asr import KDASRTask
    from espnet2_kd.tasks.checkpoint import load_student
    from espnet2_kd.tasks.trainer import draw

    model, options = load_student(args.exp, args.model_file)
    if not hasattr(model, "cif"):
        raise ConfigError(f"{args.exp}: {type(model).__name__} has no CIF layer")
    utterances = Utterances(args.data_dir, sample_rate(options))
    wanted = args.utts or utterances.ids[: args.num_utts]
    if unknown := sorted(set(wanted) - set(utterances.ids)):
        raise ConfigError(f"{args.data_dir}: no utterance {', '.join(unknown)}")
    texts = utterances.data.tables.get("text", {})
    preprocess = KDASRTask.build_preprocess_fn(options, train=False)
    for utt in wanted:
        samples = utterances.read(utt)
        if samples is None:
            continue
        batch = {
            "speech": torch.from_numpy(samples)[None],
            "speech_lengths": torch.tensor([len(samples)]),
            "utt_id": [utt],
        }
        if utt in texts:
            labels = torch.from_numpy(preprocess(utt, {"text": texts[utt]})["text"])[None]
            batch |= {"text": labels, "text_lengths": torch.tensor([labels.shape[1]])}
        for path in draw(model, batch, args.output_dir, Path(args.model_file).stem):
            print(path)
    if utterances.problems:
        raise DataError(utterances.problems)


if __name__ == "__main__":
    sys.exit(main())
