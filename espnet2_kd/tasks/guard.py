"""Training that names the utterances it stumbles over, and stops where going on is of no use."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass

from espnet2_kd.tasks.training_state import resume, whole_files

Batch = tuple[list[str], dict[str, torch.Tensor]]
# glibc, through torch, and CUDA; the latter has a class of its own.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
NAMED = 20  # utterances, at most


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the utterances and says what to do."""


@dataclass
class GuardedOptions(TrainerOptions):
    """ESPnet2's options, and how many updates in a row may be skipped."""

    max_skipped_updates: int


class GuardedTrainer(Trainer):
    """ESPnet2's trainer skips an update whose gradient is not finite, whichever utterances it came from, and when all of an
    epoch are, it ends as if it had succeeded. This one says which utterances, and fails after so many in a row. It can be killed
    at any moment and goes on from the last whole state.
    """

    resume = staticmethod(resume)

    @classmethod
    def run(cls, **arguments: Any) -> None:
        """As ESPnet2's."""
        with whole_files():
            super().run(**arguments)

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> GuardedOptions:
        """As ESPnet2's."""
        return build_dataclass(GuardedOptions, args)

    @classmethod
    def train_one_epoch(
        cls, model: torch.nn.Module, iterator: Iterable[Batch], optimizers: Any, options: GuardedOptions, **others: Any
    ) -> bool:
        """As ESPnet2's.

        Raises:
            TrainingError: too many updates in a row, or all of the epoch, were skipped, or memory did not suffice.
        """
        watched = Watched(iterator, optimizers, options)
        try:
            if super().train_one_epoch(model=model, iterator=watched, optimizers=optimizers, options=options, **others):
                raise TrainingError(f"no update of the epoch had a finite gradient. {watched.advice()}")
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and not any(
                words in str(error) for words in OUT_OF_MEMORY
            ):
                raise
            raise TrainingError(
                f"out of memory at a batch of {describe(watched.batches[-1:])}. Make batches smaller (batch_bins or "
                f"batch_size, with a larger accum_grad), or leave long utterances out (max_wav_duration of run.sh). {error}"
            ) from error
        finally:
            watched.close()
        return False


class Watched:
    """The batches of an epoch, and whether each update came about.

    batches: those of the update that is being computed.
    """

    def __init__(
        self, iterator: Iterable[Batch], optimizers: Iterable[torch.optim.Optimizer], options: GuardedOptions
    ) -> None:
        self.iterator = iterator
        self.accum_grad = options.accum_grad
        self.no_forward_run = options.no_forward_run
        self.limit = options.max_skipped_updates
        self.batches: list[Batch] = []
        self.num_steps = self.num_skipped = 0
        self.hooks = [optimizer.register_step_post_hook(self._stepped) for optimizer in optimizers]

    def __len__(self) -> int:
        return len(self.iterator)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.iterator:
            self._look_back()
            self.batches.append(batch)
            yield batch
        self._look_back()

    def close(self) -> None:
        """Leave the optimizers as they were."""
        for hook in self.hooks:
            hook.remove()

    def advice(self) -> str:
        """What to look at."""
        return (
            f"The last were {describe(self.batches)}. Look at these (silence? text of another utterance?); if others fail as "
            "well, lower the learning rate, warm up for longer, or lower the weights of kd_terms"
        )

    def _stepped(self, *_: Any) -> None:
        self.num_steps += 1

    def _look_back(self) -> None:
        if len(self.batches) < self.accum_grad:
            return
        if self.num_steps or self.no_forward_run:
            self.num_skipped = 0
        else:
            self.num_skipped += 1
            logging.warning("No update: loss or gradient is not finite at %s", describe(self.batches))
            if self.num_skipped >= self.limit:
                raise TrainingError(f"{self.num_skipped} updates in a row had no finite gradient. {self.advice()}")
        self.batches, self.num_steps = [], 0


def describe(batches: list[Batch]) -> str:
    """How many utterances, how long, and which."""
    utts = [utt for names, _ in batches for utt in names]
    lengths = [int(n) for _, batch in batches for n in batch.get("speech_lengths", ())]
    longest = f", the longest of {max(lengths)} samples or frames" if lengths else ""
    more = f" and {len(utts) - NAMED} more" if len(utts) > NAMED else ""
    return f"{len(utts)} utterances{longest} ({', '.join(utts[:NAMED])}{more})"
