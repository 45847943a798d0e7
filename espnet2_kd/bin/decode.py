"""Decodes a data directory with a trained transducer, whole utterances at a time: writes text, token and score."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from espnet2_kd.asr.freshness import decoding_made_from, is_done, note_done
from espnet2_kd.bin.command import SECONDS, number, one_line_errors
from espnet2_kd.data.problems import require_two_places

OUTPUTS = ("token", "score", "text")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it, or a path")
    parser.add_argument(
        "--config",
        type=Path,
        help="YAML: search, beam_size, max_symbols, chunk_ms, left_ms, right_ms (default: as scored)",
    )
    parser.add_argument("--data_dir", required=True, type=Path, help="data directory with wav.scp and utt2spk")
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--batch_seconds", type=SECONDS, default=120.0, help="audio in a padded batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_threads", type=number(0), default=0, help="CPU threads, 0 leaves it to torch")
    parser.add_argument(
        "--force", action="store_true", help="decode although the outputs are of this model and this data"
    )
    return parser


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(decode, get_parser().parse_args(cmd))


def decode(args: argparse.Namespace) -> None:
    """Decode and write; raises ``ConfigError``, ``DataError`` or ``ExperimentError`` and then writes nothing."""
    require_two_places(args.data_dir, args.output_dir)
    outputs = [args.output_dir / name for name in OUTPUTS]
    key = decoding_made_from(args.exp, args.model_file, args.config, args.data_dir)
    if not args.force and is_done(outputs, key):
        print(f"{args.output_dir / 'text'} is of this model and this data: nothing to do")
        return

    import torch

    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.asr.recognizer import Recognizer
    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.data.progress import Progress
    from espnet2_kd.data.table import write_table

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    recognizer = Recognizer.load(args.exp, args.model_file, DecodeConfig.for_model(args.exp, args.config), args.device)
    utterances = Utterances(args.data_dir, recognizer.rate)
    tables: dict[str, dict[str, str]] = {name: {} for name in OUTPUTS}
    start, num_samples = time.monotonic(), 0
    with Progress(f"decode {args.data_dir}", len(utterances.ids)) as progress:
        for batch in utterances.batches(args.batch_seconds):
            speech = {utt: samples for utt in batch if (samples := utterances.read(utt)) is not None}
            progress.step(len(batch))
            if utterances.problems or not speech:
                continue
            for utt, nbest in zip(speech, recognizer.decode(list(speech.values()))):
                tables["text"][utt] = recognizer.text(nbest[0])
                tables["token"][utt] = " ".join(recognizer.tokens(nbest[0]))
                tables["score"][utt] = f"{nbest[0].score:.4f}"
                num_samples += len(speech[utt])
    if utterances.problems:
        raise DataError(utterances.problems)
    for name in OUTPUTS:
        write_table(args.output_dir / name, tables[name])
    note_done(outputs, key)
    seconds, elapsed = num_samples / recognizer.rate, time.monotonic() - start
    print(f"decoded {len(tables['text'])} utterances, {seconds:.0f} s of audio, in {elapsed:.0f} s: {args.output_dir}")


if __name__ == "__main__":
    sys.exit(main())
