"""Shows how alike the layers of a student and a teacher are (linear CKA), and proposes which of them to connect."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import SECONDS, number, one_line_errors


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--student_exp", required=True, type=Path, help="experiment directory, trained without a teacher"
    )
    parser.add_argument(
        "--teacher_exp", required=True, help="experiment directory or packed model; with hf_speech its path or name"
    )
    parser.add_argument("--teacher", default="espnet", choices=("espnet", "hf_speech"), help="kind of the teacher")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in both experiments")
    parser.add_argument("--data_dir", required=True, type=Path, help="formatted speech; needs no transcripts")
    parser.add_argument(
        "--output_dir", required=True, type=Path, help="for similarity.tsv, similarity.png and taps.yaml"
    )
    parser.add_argument("--num_taps", type=number(), default=4, help="how many pairs to propose")
    parser.add_argument("--max_seconds", type=SECONDS, default=600.0, help="audio to look at, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_seconds", type=SECONDS, default=120.0, help="audio in a padded batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(match_layers, get_parser().parse_args(cmd))


def match_layers(args: argparse.Namespace) -> None:
    """Compute, write and print; raises ConfigError, DataError or ExperimentError before anything is written."""
    import random

    import torch

    from espnet2_kd.asr.load import load_model, sample_rate
    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.data.progress import Progress
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.kd.similarity import LinearCKA, layers_of, propose_taps
    from espnet2_kd.kd.teachers.espnet import EspnetTeacher, ModelTeacher
    from espnet2_kd.kd.teachers.hf_speech import HFSpeechTeacher

    model, options = load_model(args.student_exp, args.model_file, args.device)
    student = ModelTeacher(model)
    if args.teacher == "espnet":
        teacher = EspnetTeacher(args.teacher_exp, args.model_file)
    else:
        teacher = HFSpeechTeacher(args.teacher_exp)
    layers = {}
    for name, side in (("student", student), ("teacher", teacher)):
        layers[name] = layers_of([path for path, _ in side.model.named_modules()])
        if not 1 <= args.num_taps <= len(layers[name]):
            raise ConfigError(f"--num_taps {args.num_taps}: the {name} has {len(layers[name])} layers")
        side.watch(set(layers[name]))
    utterances = Utterances(args.data_dir, sample_rate(options))
    chosen, seconds = set(), 0.0
    for utt in random.Random(args.seed).sample(utterances.ids, len(utterances.ids)):
        if seconds >= args.max_seconds:
            break
        chosen.add(utt)
        seconds += utterances.num_samples(utt) / utterances.rate
    cka = LinearCKA()
    with Progress(f"compare on {args.data_dir}", len(chosen)) as progress:
        for batch in utterances.batches(args.batch_seconds):
            speech = [samples for utt in batch if utt in chosen and (samples := utterances.read(utt)) is not None]
            if not speech:
                continue
            lens = torch.tensor([len(samples) for samples in speech])
            padded = torch.zeros(len(speech), int(lens.max()))
            for row, samples in zip(padded, speech, strict=True):
                row[: len(samples)] = torch.from_numpy(samples)
            data = {"speech": padded.to(args.device), "speech_lengths": lens.to(args.device)}
            seen = [side.observe(data, {}) for side in (student, teacher)]
            rate = _frames_per_frame(seen[0][layers["student"][0]].x.shape[1], seen[1][layers["teacher"][0]].x.shape[1])
            cka.add(
                {path: seen[0][path] for path in layers["student"]},
                {path: _slower(seen[1][path], rate) for path in layers["teacher"]},
            )
            progress.step(len(speech))
    if utterances.problems:
        raise DataError(utterances.problems)
    matrix = cka.matrix()
    taps = propose_taps(matrix, args.num_taps)
    _write(args.output_dir, layers, matrix.tolist(), taps)
    print(f"linear CKA over {cka.count} frames, {seconds:.0f} s: {args.output_dir}/similarity.png")
    for s, t in taps:
        print(f"  student: {layers['student'][s]}  teacher: {layers['teacher'][t]}  similarity: {matrix[s, t]:.3f}")


def _frames_per_frame(num_student: int, num_teacher: int) -> int:
    from espnet2_kd.kd.registry import ConfigError

    rate = max(1, round(num_teacher / num_student))
    if abs(num_teacher - rate * num_student) > max(2 * rate, 0.02 * num_teacher):
        raise ConfigError(
            f"{num_student} student and {num_teacher} teacher frames for the same audio: only whole numbers of teacher frames per "
            "student frame can be compared"
        )
    return rate


def _slower(seq, rate: int):
    """The mean of every `rate` frames."""
    from espnet2_kd.kd.seq import Seq

    if rate == 1:
        return seq
    num = seq.x.shape[1] // rate
    return Seq(seq.x[:, : num * rate].unflatten(1, (num, rate)).mean(2), seq.lens // rate)


def _write(folder: Path, layers: dict[str, list[str]], matrix: list[list[float]], taps: list[tuple[int, int]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "similarity.tsv").open("w", encoding="utf-8") as stream:
        stream.write("\t".join(["student", *layers["teacher"]]) + "\n")
        for path, row in zip(layers["student"], matrix, strict=True):
            stream.write("\t".join([path, *(f"{value:.4f}" for value in row)]) + "\n")
    with (folder / "taps.yaml").open("w", encoding="utf-8") as stream:
        stream.write("# For kd_terms: each with a name, a head, a loss and a weight.\n")
        stream.writelines(f"- {{student: {layers['student'][s]}, teacher: {layers['teacher'][t]}}}\n" for s, t in taps)
    size = (1.5 + 0.45 * len(layers["teacher"]), 1.5 + 0.45 * len(layers["student"]))
    figure, axes = pyplot.subplots(figsize=(max(4.5, size[0]), max(3.5, size[1])), layout="constrained")
    image = axes.imshow(matrix, vmin=0.0, vmax=1.0, origin="lower", cmap="viridis")
    figure.colorbar(image, ax=axes, label="linear CKA")
    axes.set_xlabel("teacher layer")
    axes.set_ylabel("student layer")
    axes.set_xticks(range(len(layers["teacher"])), [str(n + 1) for n in range(len(layers["teacher"]))])
    axes.set_yticks(range(len(layers["student"])), [str(n + 1) for n in range(len(layers["student"]))])
    for s, t in taps:
        axes.add_patch(pyplot.Rectangle((t - 0.5, s - 0.5), 1, 1, fill=False, edgecolor="tab:red", linewidth=2.5))
    axes.set_title("red: proposed taps", fontsize="medium")
    figure.savefig(folder / "similarity.png", dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
