"""What every training of ours can do, whatever it trains: options, and the hooks of a task that they need."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from espnet2.tasks.abs_task import AbsTask
from espnet2.train.dataset import AbsDataset
from espnet2.train.distributed_utils import DistributedOption
from espnet2.utils.sized_dict import SizedDict
from espnet2.utils.types import str2bool

from espnet2_kd.tasks.augmentation import SeededPreprocess
from espnet2_kd.tasks.config import ArgumentParser
from espnet2_kd.tasks.guard import GuardedTrainer
from espnet2_kd.tasks.interruption import interruptible
from espnet2_kd.tasks.meeting_point import find_meeting_point
from espnet2_kd.tasks.training_data import TrainingIterFactory
from espnet2_kd.tasks.training_options import keep_options, require_same_options
from espnet2_kd.tasks.training_state import STATE, require_weights


def guarded(task: type[AbsTask]) -> type[AbsTask]:
    """Subclass of a task whose training is that of `GuardedTrainer`, over any number of processes."""

    class GuardedTask(task):
        trainer = task.trainer if issubclass(task.trainer, GuardedTrainer) else GuardedTrainer

        @classmethod
        def get_parser(cls) -> ArgumentParser:
            parser = super().get_parser()
            # The task makes its parser itself and offers no hook for another.
            parser.__class__ = ArgumentParser
            return parser

        @classmethod
        def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
            super().add_task_arguments(parser)
            add_arguments(parser.add_argument_group("Guard"))

        @classmethod
        def main_worker(cls, args: argparse.Namespace) -> None:
            # The stock task reads them as programs.
            for param in args.init_param:
                require_weights(param, args.trust_init_param)
            find_meeting_point(args)
            if not args.collect_stats and not args.dry_run:
                if args.resume and not args.force_resume:
                    require_same_options(args, STATE)
                keep_options(args)
            # A process per GPU is a program of its own and begins here.
            with interruptible():
                super().main_worker(args)

        @classmethod
        def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable | None:
            preprocess = super().build_preprocess_fn(args, train)
            if not train or preprocess is None:
                return preprocess
            return SeededPreprocess(preprocess, args.seed, getattr(args, "quiet_epochs", 0))

        @classmethod
        def build_iter_factory(
            cls,
            args: argparse.Namespace,
            distributed_option: DistributedOption,
            mode: str,
            kwargs: dict[str, Any] | None = None,
        ):
            factory = super().build_iter_factory(args, distributed_option, mode, kwargs)
            if mode != "train":
                return factory
            return TrainingIterFactory(factory, args.train_shape_file, getattr(args, "unlabelled_shape_file", []))

        @classmethod
        def build_dataset(cls, args: argparse.Namespace, *others: Any, **more: Any) -> AbsDataset:
            dataset = super().build_dataset(args, *others, **more)
            if args.num_workers == 0 and getattr(dataset, "cache", None) is not None:
                # ESPnet2 has another process keep it for all that read, and asking that takes as long as reading.
                dataset.cache = SizedDict()
            return dataset

    GuardedTask.__name__ = GuardedTask.__qualname__ = task.__name__
    return GuardedTask


def add_arguments(group: Any) -> None:
    """The options of the guard."""
    group.add_argument(
        "--save_every_minutes",
        type=float,
        default=30.0,
        help="Save the state of the training this often, beside after every epoch; 0: only then",
    )
    group.add_argument(
        "--save_every_updates",
        type=int,
        default=0,
        help="Also after so many updates of an epoch; 0: by the clock alone",
    )
    group.add_argument(
        "--force_resume",
        type=str2bool,
        default=False,
        help="Go on with a training although its options have changed",
    )
    group.add_argument(
        "--preflight",
        type=lambda word: None if word == "auto" else str2bool(word),
        default=None,
        help="Try the batches that need most memory first; auto: where there is a GPU",
    )
    group.add_argument(
        "--max_skipped_updates",
        type=int,
        default=30,
        help="Fail after so many updates in a row without a finite gradient",
    )
    group.add_argument(
        "--quiet_epochs",
        type=int,
        default=0,
        help="Add noise and reverberation after so many epochs only: words are found sooner in quiet",
    )
    group.add_argument(
        "--trust_init_param",
        type=str2bool,
        default=False,
        help="Read files of --init_param that are programs, too: what they say is executed",
    )
