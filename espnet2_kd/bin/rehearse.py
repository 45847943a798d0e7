"""Builds every system of a recipe, and runs each student and its teacher on two utterances of noise: mistakes in a configuration show before the first training."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from espnet2_kd.bin.command import end, number, rate

if TYPE_CHECKING:
    from torch import nn

# What a wrong name, keyword, file or shape in ESPnet2's own parts ends in.
MAX_SHORTEST_MS = 10_000  # an encoder that needs more is no encoder of speech


class HasParser(Protocol):
    """A task of ESPnet2, or a module of a command."""

    def get_parser(self) -> argparse.ArgumentParser: ...


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--configs", type=Path, nargs="*", default=[], help="of the students")
    parser.add_argument("--teacher_config", type=Path, help="of the teacher that the recipe trains")
    parser.add_argument("--teacher_file", help="the teacher's checkpoint, where a student does not name it")
    parser.add_argument("--exp_dir", type=Path, default=Path("exp"), help="where models may still be to be made")
    parser.add_argument("--inference_configs", type=Path, nargs="*", default=[], help="how they will be decoded")
    parser.add_argument("--unlabelled_dir", type=Path, help="formatted speech without transcripts")
    parser.add_argument(
        "--shape_files", type=Path, nargs="*", default=[], help="samples of every utterance that will be trained on"
    )
    parser.add_argument("--fs", type=rate, default="16k", help="their sampling rate")
    group = parser.add_argument_group(
        "Classifiers of intents, whose acoustic front-end is the recogniser of --teacher_config"
    )
    group.add_argument("--intent_configs", type=Path, nargs="*", default=[], help="of the classifiers")
    group.add_argument("--acoustic_exp", help="or this one, trained already")
    group.add_argument("--classes", type=Path, help="list of all slot=value")
    group.add_argument(
        "--slow_rate", type=number(), default=1, help="how many of its frames make one of the classifiers'"
    )
    group.add_argument("--text_model", help="text encoder that is to learn the intents and teach")
    group.add_argument("--text_config", type=Path, help="how it is to learn")
    parser.add_argument("training", nargs="*", help="after --: options of espnet2_kd.bin.asr_train that all share")
    return parser


def main(cmd: list[str] | None = None) -> int:
    args = get_parser().parse_args(cmd)
    from espnet2_kd.asr.decode_config import DecodeConfig

    with TemporaryDirectory() as scratch:
        teacher = Path(scratch) / "teacher"
        problems = _problems(args.teacher_config, lambda: _make_teacher(args, teacher)) if args.teacher_config else []
        # Without it no student says anything of use.
        for config in args.configs if not problems else []:
            problems += _problems(config, lambda config=config: _try_student(args, config, teacher, Path(scratch)))
            gc.collect()  # a student and its teacher hold each other: two of the next size may not fit beside them
        text = Path(scratch) / "text"
        if args.text_config:
            problems += _problems(args.text_config, lambda: _make_text_teacher(args, text))
        for config in args.intent_configs if not problems else []:
            problems += _problems(
                config, lambda config=config: _try_classifier(args, config, teacher, text, Path(scratch))
            )
            gc.collect()
    for config in args.inference_configs:
        problems += _problems(config, lambda config=config: DecodeConfig.read(config))
    for problem in problems:
        print(f"mistake in {' '.join(problem.split())}", file=sys.stderr)
    return int(bool(problems))


def _problems(config: Path, work: Callable[[], object]) -> list[str]:
    from espnet2_kd.asr.load import WRONG_CONFIG, ExperimentError
    from espnet2_kd.asr.model_pack import PackError
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.tasks.training_error import TrainingError

    try:
        work()
    except (ConfigError, DataError, ExperimentError, PackError, TrainingError) as error:
        return [f"{config}: {error}"]
    except WRONG_CONFIG as error:
        logging.exception("%s", config)
        return [f"{config}: {type(error).__name__}: {error}"]
    return []


def _options(args: argparse.Namespace, config: Path, exp: Path, *more: str) -> list[str]:
    """The command line of a training that ends before its first batch."""
    return [
        *("--config", str(config), *args.training, "--output_dir", str(exp)),
        *("--ngpu", "0", "--dry_run", "true", *more),
    ]


def _parse(program: HasParser, cmd: list[str]) -> argparse.Namespace:
    """The options of a training; raises ConfigError for those that there are not."""
    from espnet2_kd.kd.registry import ConfigError

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return program.get_parser().parse_args(cmd)
    except SystemExit as error:
        raise ConfigError(said.getvalue().strip().rpartition("error: ")[2]) from error


def _build(args: argparse.Namespace, cmd: list[str]) -> nn.Module:
    """The model of a training, distilled or not; raises ConfigError for utterances of which its encoder makes nothing."""
    from espnet2_kd.tasks.asr import KDASRTask

    built = []

    class Rehearsed(KDASRTask):
        @classmethod
        def build_model(cls, args: argparse.Namespace) -> nn.Module:
            built.append(super().build_model(args))
            return built[0]

    Rehearsed.main(cmd=cmd)
    _require_frames(built[0].eval(), args)
    return built[0]


def _make_teacher(args: argparse.Namespace, exp: Path) -> None:
    """An experiment with weights as they are before training."""
    import torch

    from espnet2_kd.kd.teachers.espnet import CHECKPOINT
    from espnet2_kd.tasks.asr import KDASRTask

    cmd = _options(args, args.teacher_config, exp)
    _parse(KDASRTask, cmd)
    torch.save(_build(args, cmd).state_dict(), exp / (args.teacher_file or CHECKPOINT))


def _try_student(args: argparse.Namespace, config: Path, teacher: Path, scratch: Path) -> None:
    from espnet2_kd.kd.teachers.espnet import CHECKPOINT
    from espnet2_kd.tasks.asr import KDASRTask

    exp = scratch / "students" / config.stem
    given = _parse(KDASRTask, _options(args, config, exp))
    if missing := [path for path in _to_be_made(given, args.exp_dir) if not path.exists()]:
        print(f"{config}: not tried, since {missing[0]} is still to be made")
        return
    more: list[str] = []
    if given.teacher == "espnet" and "exp" not in given.teacher_conf and args.teacher_config:
        checkpoint = given.teacher_conf.get("checkpoint", args.teacher_file or CHECKPOINT)
        if not (teacher / checkpoint).exists():
            (teacher / checkpoint).symlink_to(args.teacher_file or CHECKPOINT)
        more += ["--teacher_conf", f"exp={teacher}", "--teacher_conf", f"checkpoint={checkpoint}"]
    if given.unlabelled_ratio and args.unlabelled_dir:
        more += ["--unlabelled_data_path_and_name_and_type", f"{args.unlabelled_dir}/wav.scp,speech,sound"]
        more += ["--unlabelled_shape_file", f"{args.unlabelled_dir}/utt2num_samples"]
    _build(args, _options(args, config, exp, *more))


def _make_text_teacher(args: argparse.Namespace, folder: Path) -> None:
    """A text encoder with a last layer as it is before fine-tuning."""
    from espnet2_kd.bin import train_text_intents
    from espnet2_kd.slu.text_model import TextIntentModel
    from espnet2_kd.slu.text_sentences import read_classes

    options = train_text_intents.options_of(_parse(train_text_intents, ["--config", str(args.text_config)]))
    classes = read_classes(args.classes)
    TextIntentModel.from_encoder(args.text_model, classes, options.pooling, options.dropout_rate).save(folder)


def _try_classifier(args: argparse.Namespace, config: Path, ears: Path, text: Path, scratch: Path) -> None:
    from espnet2_kd.kd.teachers.espnet import CHECKPOINT
    from espnet2_kd.tasks.intent import KDIntentTask

    cmd = [
        *("--config", str(config), "--output_dir", str(scratch / "classifiers" / config.stem), "--ngpu", "0"),
        *("--token_list", str(args.classes), "--acoustic_exp", args.acoustic_exp or str(ears)),
        *("--acoustic_file", args.teacher_file or CHECKPOINT, "--model_conf", f"slow_rate={args.slow_rate}"),
    ]
    given = _parse(KDIntentTask, cmd)
    if given.teacher and args.text_model and "model" not in given.teacher_conf:
        cmd += ["--teacher_conf", f"model={text}"]
    names = ["speech", "text"]
    if any(term.get("match") == "token_pool" for term in given.kd_terms):
        names.append("spans")
        cmd += ["--train_data_path_and_name_and_type", "spans.scp,spans,kaldi_ark"]
    if given.unlabelled_ratio:
        cmd += ["--unlabelled_shape_file", "frames_shape"]
        for name in names:
            cmd += ["--unlabelled_data_path_and_name_and_type", f"{name}.scp,{name},kaldi_ark"]
    KDIntentTask.main(cmd=[*cmd, "--dry_run", "true"])


def _to_be_made(given: argparse.Namespace, exp_dir: Path) -> Iterator[Path]:
    """What trainings before this one may leave for it: weights and teachers in the recipe's `exp_dir`, dumped features."""
    named = [name.split(":")[0] for name in given.init_param]
    if given.teacher == "espnet" and "exp" in given.teacher_conf:
        named.append(given.teacher_conf["exp"])
    yield from (Path(name) for name in named if Path(name).is_relative_to(exp_dir))
    if given.teacher == "dumped":
        yield from (Path(path) for path, _, _ in given.train_data_path_and_name_and_type)


def _require_frames(model: nn.Module, args: argparse.Namespace) -> None:
    """Raise ConfigError where the shortest utterance is too short for the encoder, which would end a training in its midst."""
    import torch

    from espnet2_kd.data.table import read_table
    from espnet2_kd.kd.registry import ConfigError

    lengths = {utt: int(n) for path in args.shape_files for utt, n in read_table(path).items()}
    if not lengths:
        return
    utt = min(lengths, key=lengths.__getitem__)

    @torch.no_grad()
    def frames(num_samples: int) -> int:
        # Beside a second of speech, as in a batch.
        speech = torch.zeros(2, max(num_samples, args.fs))
        return int(model.encode(speech, torch.tensor([num_samples, speech.shape[1]]))[1][0])

    if frames(lengths[utt]) > 0:
        return
    enough = next((ms for ms in range(10, MAX_SHORTEST_MS, 10) if frames(ms * args.fs // 1000) > 0), MAX_SHORTEST_MS)
    raise ConfigError(
        f"{utt} has {lengths[utt] / args.fs:.3f} s, of which this encoder makes no frame: "
        f"leave out what is shorter than it hears, run.sh --stage 2 --min_wav_duration {enough / 1000:g}"
    )


if __name__ == "__main__":
    end(main)
