"""Tells the intents of speech: of audio files, of standard input, or of data directories.

A data directory may hold audio (wav.scp) or frames that espnet2_kd.bin.acoustic_frames took (frames.scp); it gives the tables
label (`utt slot=value ...`) and probability (one number for each slot). Files and standard input (`-`: wav, or raw 16-bit samples, as
from a microphone: arecord -q -f S16_LE -r 16000 -d 4 -t raw | ... -) show the intents with their probabilities.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from espnet2_kd.bin.command import SECONDS, number, one_line_errors
from espnet2_kd.data.problems import require_two_places

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from espnet2_kd.tasks.intent_classifier import IntentClassifier

BATCH_FRAMES = 20000


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="*", help="wav, flac, ... files, or - for standard input")
    parser.add_argument("--ref_channel", help="channel to take from files with several (0 is the first), or mix")
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory, or its pack")
    parser.add_argument("--model_file", default="valid.acc.ave.pth", help="checkpoint in it, or a path")
    parser.add_argument("--data_dir", nargs="+", default=[], type=Path, help="data directories, instead of files")
    parser.add_argument("--output_dir", nargs="+", default=[], type=Path, help="one for each data directory")
    parser.add_argument(
        "--batch_seconds",
        type=SECONDS,
        default=120.0,
        help="audio in a padded batch (default: 120); does not matter to frames",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--num_threads", type=number(0), default=0, help="CPU threads, 0 leaves it to torch")
    return parser


def main(cmd: list[str] | None = None) -> int:
    parser = get_parser()
    args = parser.parse_args(cmd)
    if bool(args.audio) == bool(args.data_dir):
        parser.error("give either audio files (or -) or --data_dir")
    if len(args.data_dir) != len(args.output_dir):
        parser.error("give as many --output_dir as --data_dir")
    return one_line_errors(classify, args)


def require_classifier(exp: Path) -> None:
    """Raise ExperimentError for an experiment that is a recogniser."""
    from espnet2_kd.asr.load import ExperimentError, read_config

    # Only the task of intents has this option.
    if (exp / "config.yaml").is_file() and "acoustic_file" not in read_config(exp / "config.yaml"):
        raise ExperimentError(
            f"{exp}: is a recogniser, which tells no intents: python -m espnet2_kd.bin.stream --exp {exp}"
        )


def classify(args: argparse.Namespace) -> None:
    """Classify what the options name; raises what ``main`` reports."""
    import torch

    from espnet2_kd.tasks.intent_classifier import IntentClassifier

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    require_classifier(args.exp)
    for data_dir, output_dir in zip(args.data_dir, args.output_dir, strict=True):
        require_two_places(data_dir, output_dir)
    classifier = IntentClassifier.from_pretrained(args.exp, args.model_file, args.device)
    for data_dir, output_dir in zip(args.data_dir, args.output_dir, strict=True):
        write_answers(classifier, data_dir, output_dir, args.batch_seconds)
    for name in args.audio:
        show(classifier, name, args.ref_channel)


def write_answers(classifier: IntentClassifier, data_dir: Path, output_dir: Path, batch_seconds: float) -> None:
    """Write the tables of a data directory, both or none."""
    from espnet2_kd.data.intents import label_line
    from espnet2_kd.data.progress import Progress
    from espnet2_kd.data.table import read_table, write_table
    from espnet2_kd.slu.frames import require_same_ears

    labels, probabilities = {}, {}
    require_same_ears(data_dir, classifier.ears, classifier.model.slow.rate)
    counted = "frames_shape" if (data_dir / "frames.scp").is_file() else "utt2spk"
    batches = frame_batches if (data_dir / "frames.scp").is_file() else audio_batches
    with Progress(f"classify {data_dir}", len(read_table(data_dir / counted))) as progress:
        for batch in batches(data_dir, classifier.rate, batch_seconds):
            for utt, found in zip(batch, classifier.batch(list(batch.values())), strict=True):
                labels[utt] = label_line({slot: value for slot, (value, _) in found.items()})
                probabilities[utt] = " ".join(f"{probability:.4f}" for _, probability in found.values())
            progress.step(len(batch))
    # label comes last: its date says that both are complete.
    output_dir.mkdir(parents=True, exist_ok=True)
    write_table(output_dir / "probability", probabilities)
    write_table(output_dir / "label", labels)
    print(f"{output_dir}: intents of {len(labels)} utterances", flush=True)


def frame_batches(data_dir: Path, rate: int, batch_seconds: float) -> Iterator[dict[str, np.ndarray]]:
    """Frames `(T, D)` of a directory of frames, in padded batches; raises DataError where one cannot be read."""
    import kaldiio

    from espnet2_kd.data.problems import one_problem
    from espnet2_kd.data.table import read_table

    def read(names: list[str]) -> dict[str, np.ndarray]:
        found = {}
        for name in names:
            try:
                found[name] = arrays[name]
            except (KeyError, OSError, ValueError) as error:
                what = f"{name}: no readable frames ({error!r})"
                raise one_problem(
                    data_dir / "frames.scp", what, "take them again (espnet2_kd.bin.acoustic_frames)"
                ) from error
        return found

    lens = {utt: int(shape.split(",")[0]) for utt, shape in read_table(data_dir / "frames_shape").items()}
    arrays = kaldiio.load_scp(str(data_dir / "frames.scp"))
    batch: list[str] = []
    for utt in sorted(lens, key=lambda utt: (-lens[utt], utt)):
        if batch and (len(batch) + 1) * lens[batch[0]] > BATCH_FRAMES:
            yield read(batch)
            batch = []
        batch.append(utt)
    if batch:
        yield read(batch)


def audio_batches(data_dir: Path, rate: int, batch_seconds: float) -> Iterator[dict[str, np.ndarray]]:
    """Samples `(N,)` of a data directory, in padded batches; raises DataError after the last where some cannot be read."""
    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.data.problems import DataError

    utterances = Utterances(data_dir, rate)
    for batch in utterances.batches(batch_seconds):
        speech = {utt: samples for utt in batch if (samples := utterances.read(utt)) is not None}
        if speech and not utterances.problems:
            yield speech
    if utterances.problems:
        raise DataError(utterances.problems)


def show(classifier: IntentClassifier, name: str, ref_channel: str | None) -> None:
    """Print the intents of one file or standard input, with how sure the classifier is."""
    import numpy as np

    from espnet2_kd.asr.audio_pieces import read_pieces
    from espnet2_kd.data.audio import named

    pieces = list(read_pieces(name, classifier.rate, classifier.rate, ref_channel))
    if not pieces or not any(piece.any() for piece in pieces):
        print(f"{name}: no sound")
        return
    with named(name):
        found = classifier(np.concatenate(pieces))
    print(name, *(f"{slot}={value} ({probability:.0%})" for slot, (value, probability) in found.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
