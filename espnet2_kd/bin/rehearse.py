"""Builds every system of a recipe, and runs each student and its teacher on two utterances of noise: mistakes in a configuration show before the first training."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from espnet2_kd.bin.command import end, rate

if TYPE_CHECKING:
    from torch import nn

# What a wrong name, keyword or shape in ESPnet2's own parts ends in.
WRONG_CONFIG = (TypeError, ValueError, KeyError, AttributeError, RuntimeError, AssertionError)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--configs", required=True, type=Path, nargs="+", help="of the students")
    parser.add_argument("--teacher_config", type=Path, help="of the teacher that the recipe trains")
    parser.add_argument("--teacher_file", help="the teacher's checkpoint, where a student does not name it")
    parser.add_argument("--unlabelled_dir", type=Path, help="formatted speech without transcripts")
    parser.add_argument(
        "--shape_files", type=Path, nargs="*", default=[], help="samples of every utterance that will be trained on"
    )
    parser.add_argument("--fs", type=rate, default="16k", help="their sampling rate")
    parser.add_argument("training", nargs="*", help="after --: options of espnet2_kd.bin.asr_train that all share")
    return parser


def main(cmd: list[str] | None = None) -> int:
    args = get_parser().parse_args(cmd)
    with TemporaryDirectory() as scratch:
        teacher = Path(scratch) / "teacher"
        problems = _problems(args.teacher_config, lambda: _make_teacher(args, teacher)) if args.teacher_config else []
        # Without it no student says anything of use.
        for config in args.configs if not problems else []:
            problems += _problems(config, lambda config=config: _try_student(args, config, teacher, Path(scratch)))
    for problem in problems:
        print(f"mistake in {problem}", file=sys.stderr)
    return int(bool(problems))


def _problems(config: Path, work: Callable[[], None]) -> list[str]:
    from espnet2_kd.asr.load import ExperimentError
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.tasks.training_error import TrainingError

    try:
        work()
    except (ConfigError, ExperimentError, TrainingError) as error:
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


def _build(args: argparse.Namespace, cmd: list[str]) -> nn.Module:
    """The model of a training, distilled or not; raises ConfigError for utterances of which its encoder makes nothing."""
    from espnet2_kd.tasks.asr import KDASRTask

    class Rehearsed(KDASRTask):
        @classmethod
        def build_model(cls, args: argparse.Namespace) -> nn.Module:
            cls.model = super().build_model(args)
            return cls.model

    Rehearsed.main(cmd=cmd)
    _require_frames(Rehearsed.model.eval(), args)
    return Rehearsed.model


def _make_teacher(args: argparse.Namespace, exp: Path) -> None:
    """An experiment with weights as they are before training."""
    import torch

    from espnet2_kd.kd.teachers.espnet import CHECKPOINT

    model = _build(args, _options(args, args.teacher_config, exp))
    torch.save(model.state_dict(), exp / (args.teacher_file or CHECKPOINT))


def _try_student(args: argparse.Namespace, config: Path, teacher: Path, scratch: Path) -> None:
    from espnet2_kd.kd.teachers.espnet import CHECKPOINT
    from espnet2_kd.tasks.asr import KDASRTask

    exp = scratch / config.stem
    given = KDASRTask.get_parser().parse_args(_options(args, config, exp))
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
    enough = next(ms for ms in range(10, 10_000, 10) if frames(ms * args.fs // 1000) > 0)
    raise ConfigError(
        f"{utt} has {lengths[utt] / args.fs:.3f} s, of which this encoder makes no frame: "
        f"leave out what is shorter than it hears, run.sh --stage 2 --min_wav_duration {enough / 1000:g}"
    )


if __name__ == "__main__":
    end(main)
