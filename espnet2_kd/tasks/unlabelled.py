"""Speech without labels beside the labelled training data."""

from __future__ import annotations

import argparse
import copy
from typing import Any

from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import AbsTask
from espnet2.train.distributed_utils import DistributedOption

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.training_data import MixedIterFactory


def mix_unlabelled(
    task: type[AbsTask], labelled: AbsIterFactory, args: argparse.Namespace, distributed_option: DistributedOption
) -> MixedIterFactory:
    """Let every labelled batch come with `args.unlabelled_ratio` times as much unlabelled speech.

    As much means what the batches are measured in: `batch_bins`, or utterances where `batch_type` counts those.
    """

    class SpeechOnly(task):
        @classmethod
        def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
            return ("speech",)

    options = task.build_iter_options(args, distributed_option, "train")
    options.data_path_and_name_and_type = args.unlabelled_data_path_and_name_and_type
    options.shape_files = args.unlabelled_shape_file
    options.batch_size = max(1, round(args.batch_size * args.unlabelled_ratio))
    options.batch_bins = max(1, round(args.batch_bins * args.unlabelled_ratio))
    options.num_iters_per_epoch = args.num_iters_per_epoch or len(labelled.sampler)
    folded = copy.copy(args)
    folded.fold_length = args.fold_length[: len(options.shape_files)]
    return MixedIterFactory(labelled, SpeechOnly.build_sequence_iter_factory(folded, options, "train"))


def without_labels(batch: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """What a batch has where nothing but the unlabelled data is given: of its text, no more than comes with that."""
    given = {name for _, name, _ in args.unlabelled_data_path_and_name_and_type}
    return {
        key: value
        for key, value in batch.items()
        if (name := key.removesuffix("_lengths")) in given or name not in ("text", "spans")
    }


def check_unlabelled(args: argparse.Namespace) -> None:
    """Raise ConfigError where the options for unlabelled speech do not go together."""
    if args.unlabelled_ratio < 0:
        raise ConfigError(f"unlabelled_ratio {args.unlabelled_ratio}: must not be negative")
    given = bool(args.unlabelled_data_path_and_name_and_type)
    if given and not args.unlabelled_ratio:
        raise ConfigError("unlabelled speech is given but no share of it; set `unlabelled_ratio: 1.0`, or leave it out")
    if not args.unlabelled_ratio:
        return
    if not given or not args.unlabelled_shape_file:
        raise ConfigError(
            f"unlabelled_ratio is {args.unlabelled_ratio}: give the speech (--unlabelled_data_path_and_name_and_type "
            "dump/raw/<set>/wav.scp,speech,sound) and its lengths (--unlabelled_shape_file dump/raw/<set>/utt2num_samples)"
        )
    if not args.kd_terms:
        raise ConfigError("unlabelled speech teaches through kd_terms only, and there are none")
    if args.iterator_type != "sequence" or args.multiple_iterator:
        raise ConfigError("unlabelled speech needs `iterator_type: sequence` and no `multiple_iterator`")
