"""Transcribes a set of speech with a trained model, for students to learn from as if people had written it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import SECONDS, number, one_line_errors
from espnet2_kd.data.problems import require_two_places


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--exp", required=True, type=Path, help="experiment directory of the model, usually the teacher"
    )
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it, or a path")
    parser.add_argument(
        "--config",
        type=Path,
        help="YAML: search, beam_size, max_symbols, chunk_ms, left_ms, right_ms (default: as scored)",
    )
    parser.add_argument(
        "--data_dir", required=True, type=Path, help="data directory; its text, if any, is not looked at"
    )
    parser.add_argument("--output_dir", required=True, type=Path, help="data directory to write, with text")
    parser.add_argument(
        "--min_confidence",
        type=float,
        default=0.0,
        help="leave out utterances below this probability per token (0 to 1)",
    )
    parser.add_argument("--batch_seconds", type=SECONDS, default=120.0, help="audio in a padded batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_threads", type=number(0), default=0, help="CPU threads, 0 leaves it to torch")
    return parser


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(pseudo_label, get_parser().parse_args(cmd))


def pseudo_label(args: argparse.Namespace) -> None:
    """Label what has no label yet and write the data directory; raises ConfigError, DataError or ExperimentError."""
    require_two_places(args.data_dir, args.output_dir)
    import torch

    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.asr.load import find_model
    from espnet2_kd.asr.pseudo_labels import Label, LabelFile
    from espnet2_kd.asr.recognizer import Recognizer
    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.data.data_dir import DataDir
    from espnet2_kd.data.download import file_sha256
    from espnet2_kd.data.problems import DataError, one_problem
    from espnet2_kd.data.progress import Progress
    from espnet2_kd.data.table import write_table

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    recognizer = Recognizer.load(args.exp, args.model_file, DecodeConfig.for_model(args.exp, args.config), args.device)
    config, checkpoint = find_model(args.exp, args.model_file)
    made_by = {"model": file_sha256(checkpoint), "config.yaml": file_sha256(config)}
    made_by["search"] = str(DecodeConfig.for_model(args.exp, args.config))
    utterances = Utterances(args.data_dir, recognizer.rate)
    file = LabelFile(args.output_dir / "labels.jsonl", made_by)
    with Progress(f"label {args.data_dir}", len(utterances.ids)) as progress:
        for batch in utterances.batches(args.batch_seconds):
            speech = {
                utt: samples
                for utt in batch
                if utt not in file.labels and (samples := utterances.read(utt)) is not None
            }
            progress.step(len(batch))
            if not speech:
                continue
            best = [nbest[0] for nbest in recognizer.decode(list(speech.values()))]
            file.add(
                {
                    utt: Label(recognizer.text(found), float(found.score), len(found.tokens))
                    for utt, found in zip(speech, best, strict=True)
                }
            )
    if utterances.problems:
        raise DataError(utterances.problems)
    labels = {utt: file.labels[utt] for utt in utterances.ids}
    kept = [utt for utt, label in labels.items() if label.text and label.confidence >= args.min_confidence]
    if not kept:
        silent = sum(not label.text for label in labels.values())
        what = f"no utterance left of {len(labels)} ({silent} in which the model heard nothing)"
        raise one_problem(args.data_dir, what, "lower --min_confidence, or use a better model")
    data = utterances.data
    tables = {**data.tables, "text": {utt: label.text for utt, label in labels.items()}}
    DataDir(data.path, tables, data.notes).only(kept).write(args.output_dir)
    write_table(args.output_dir / "utt2confidence", {utt: f"{labels[utt].confidence:.4f}" for utt in sorted(kept)})
    print(f"{args.output_dir}: {len(kept)} of {len(labels)} utterances, with the words that {args.exp} heard")


if __name__ == "__main__":
    sys.exit(main())
