"""The batches of a training: where to go on in an epoch, and which need most memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from torch.utils.data import DataLoader

from espnet2_kd.kd.student import UNLABELLED
from espnet2_kd.tasks.augmentation import SeededPreprocess
from espnet2_kd.tasks.interruption import blocked, end_with_parent
from espnet2_kd.tasks.training_error import Batch


class BesideUnlabelled:
    """Batches of labelled speech, each with a batch of unlabelled speech under names that begin with `unlabelled_`."""

    def __init__(self, labelled: Any, unlabelled: Any) -> None:
        if len(labelled) != len(unlabelled):
            raise ValueError(f"{len(labelled)} labelled and {len(unlabelled)} unlabelled batches")
        self.labelled = labelled
        self.unlabelled = unlabelled

    def __len__(self) -> int:
        return len(self.labelled)

    def __iter__(self) -> Iterator[Batch]:
        return self.begin(0)

    def begin(self, skipped: int) -> Iterator[Batch]:
        """Iterate over what comes after so many batches."""
        # Both before the first is asked for a batch: a training that goes on sets its random numbers in between.
        return map(_beside, begin(self.labelled, skipped), begin(self.unlabelled, skipped))


def _beside(labelled: Batch, unlabelled: Batch) -> Batch:
    (utts, batch), (more_utts, more) = labelled, unlabelled
    batch.update({f"{UNLABELLED}{name}": value for name, value in more.items()})
    batch[f"{UNLABELLED}utt_id"] = more_utts
    return utts, batch


class MixedIterFactory(AbsIterFactory):
    """Per epoch as many unlabelled batches as labelled ones; the next epoch goes on where the unlabelled data was left."""

    def __init__(self, labelled: AbsIterFactory, unlabelled: AbsIterFactory) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> BesideUnlabelled:
        return BesideUnlabelled(self.labelled.build_iter(epoch, shuffle), self.unlabelled.build_iter(epoch, shuffle))


class TrainingIterFactory(AbsIterFactory):
    """What a task made to train on.

    Args:
        shape_files: lengths of the utterances, `utt length[,size]`, and their labels'; those of unlabelled speech.
    """

    def __init__(
        self, factory: AbsIterFactory, shape_files: Sequence[str], unlabelled_shape_files: Sequence[str]
    ) -> None:
        self.factory = factory
        self.shape_files = (shape_files, unlabelled_shape_files)

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Any:
        SeededPreprocess.epoch = epoch
        return self.factory.build_iter(epoch, shuffle)

    def largest_batches(self) -> list[Batch]:
        """Those that need most memory: most frames, padding included, and most pairs of a frame and a label.

        None where batches are not known beforehand, as those of `iterator_type: chunk`.
        """
        mixed = isinstance(self.factory, MixedIterFactory)
        parts = (self.factory.labelled, self.factory.unlabelled) if mixed else (self.factory,)
        if not all(isinstance(part, SequenceIterFactory) for part in parts):
            return []
        found = [_load(parts[0], utts) for utts in _largest(parts[0], self.shape_files[0])]
        if mixed:
            more = _load(parts[1], _largest(parts[1], self.shape_files[1])[0])
            found = [_beside(batch, more) for batch in found]
        return found


def begin(iterator: Iterable[Batch], skipped: int = 0) -> Iterator[Batch]:
    """Iterate over what comes after the first batches, which are not read where one can do without.

    Processes that read outlive the signals that end a training, which needs them until its step is done.
    """
    if isinstance(iterator, BesideUnlabelled):
        return iterator.begin(skipped)
    if isinstance(iterator, DataLoader) and isinstance(iterator.batch_sampler, list):
        # The list was made for this epoch; it cannot be replaced.
        del iterator.batch_sampler[:skipped]
        if iterator.num_workers and iterator.batch_sampler:
            # What the first utterance has to load and compile is there for all processes of all epochs.
            iterator.dataset[iterator.batch_sampler[0][0]]
        iterator.worker_init_fn = partial(_begin_reading, iterator.worker_init_fn)
        with blocked():
            return iter(iterator)
    batches = iter(iterator)
    for _ in islice(batches, skipped):
        pass
    return batches


def _begin_reading(of_loader: Callable[[int], None] | None, worker: int) -> None:
    end_with_parent()
    if of_loader is not None:
        of_loader(worker)


def _largest(factory: SequenceIterFactory, shape_files: Sequence[str]) -> list[list[str]]:
    batches = [list(batch) for batch in factory.sampler]
    utts = {utt for batch in batches for utt in batch}
    lengths = [_read_lengths(Path(path), utts) for path in shape_files]

    def padded(batch: list[str], num_axes: int) -> int:
        return len(batch) * prod(max(part[utt] for utt in batch) for part in lengths[:num_axes])

    found = [max(batches, key=lambda batch: padded(batch, num_axes)) for num_axes in (1, 2)]
    return found if found[0] != found[1] else found[:1]


def _read_lengths(path: Path, utts: set[str]) -> dict[str, int]:
    lengths = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            utt, shape = line.split(maxsplit=1)
            if utt in utts:
                lengths[utt] = int(shape.split(",")[0])
    return lengths


def _load(factory: SequenceIterFactory, utts: list[str]) -> Batch:
    return factory.collate_fn([factory.dataset[utt] for utt in utts])
