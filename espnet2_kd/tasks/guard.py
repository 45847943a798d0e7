"""Training that names the utterances it stumbles over, stops where going on is of no use, and can be stopped anywhere."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train import trainer
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass
from torch.distributed import ReduceOp

from espnet2_kd.tasks import interruption
from espnet2_kd.tasks.epoch_report import ContinuedReporter, reported
from espnet2_kd.tasks.interruption import Interrupted
from espnet2_kd.tasks.preflight import preflight
from espnet2_kd.tasks.random_state import random_state, set_random_state
from espnet2_kd.tasks.training_data import begin
from espnet2_kd.tasks.training_error import Batch, TrainingError, describe, listed, memory_error
from espnet2_kd.tasks.training_state import STATE, link_best, resume, whole_files


@dataclass
class GuardedOptions(TrainerOptions):
    """ESPnet2's options, and those of the guard, see `tasks.guarded`."""

    max_skipped_updates: int
    save_every_minutes: float
    save_every_updates: int
    preflight: bool | None


class GuardedTrainer(Trainer):
    """ESPnet2's trainer skips an update whose gradient is not finite, whichever utterances it came from, and when all of an
    epoch are, it ends as if it had succeeded. This one says which utterances, and fails after so many in a row. It can be killed
    at any moment and goes on from the last whole state, which is written within epochs, too; a signal ends it after the update
    that is being computed, and no update is lost. Where it goes on, batches and random numbers are what they would have been.
    """

    resume = staticmethod(resume)

    @classmethod
    def run(
        cls,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        train_iter_factory: AbsIterFactory,
        trainer_options: GuardedOptions,
        distributed_option: DistributedOption,
        **others: Any,
    ) -> None:
        """As ESPnet2's.

        Raises:
            Interrupted: a signal asked for it, and the state is saved.
            TrainingError: it cannot go on; the message says what to do.
        """
        device = _device(trainer_options)
        wanted = device == "cuda" if trainer_options.preflight is None else trainer_options.preflight
        if wanted and not trainer_options.no_forward_run:
            preflight(model, optimizers, train_iter_factory, device, trainer_options.use_amp)
        stock, reporter = trainer.Reporter, ContinuedReporter()
        # The trainer makes its reporter itself and offers no hook for another.
        trainer.Reporter = lambda: reporter
        try:
            with whole_files(), interruption.deferred():
                super().run(
                    model=model,
                    optimizers=optimizers,
                    train_iter_factory=train_iter_factory,
                    trainer_options=trainer_options,
                    distributed_option=distributed_option,
                    **others,
                )
        finally:
            trainer.Reporter = stock
        if not distributed_option.distributed or distributed_option.dist_rank == 0:
            link_best(reporter, Path(trainer_options.output_dir), trainer_options.best_model_criterion)

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> GuardedOptions:
        """As ESPnet2's."""
        return build_dataclass(GuardedOptions, args)

    @classmethod
    def train_one_epoch(
        cls,
        model: torch.nn.Module,
        iterator: Iterable[Batch],
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[Any],
        scaler: Any,
        reporter: SubReporter,
        summary_writer: Any,
        options: GuardedOptions,
        distributed_option: DistributedOption,
    ) -> bool:
        """As ESPnet2's.

        Raises:
            Interrupted: a signal asked for it, and the state is saved.
            TrainingError: too many updates in a row, or all of the epoch, were skipped, or memory did not suffice.
        """
        parts = {"model": model, "optimizers": optimizers, "schedulers": schedulers, "scaler": scaler}
        watched = Watched(iterator, parts, reporter, summary_writer, options, distributed_option)
        # What batches at an epoch's end left over, too few for an update, is in no state.
        for optimizer in optimizers:
            optimizer.zero_grad()
        try:
            super().train_one_epoch(
                **parts,
                iterator=watched,
                reporter=reporter,
                summary_writer=summary_writer,
                # It would count the batches from where it went on.
                options=dataclasses.replace(options, log_interval=sys.maxsize),
                distributed_option=distributed_option,
            )
        except RuntimeError as error:
            explained = memory_error(error, watched.batches[-1:])
            if explained is None:
                raise
            raise explained from error
        finally:
            watched.close()
        watched.end()
        return False

    @classmethod
    def validate_one_epoch(
        cls, iterator: Iterable[Batch], reporter: SubReporter, distributed_option: DistributedOption, **others: Any
    ) -> None:
        """As ESPnet2's. Raises Interrupted where a signal asked for it, and the state is saved."""
        peers = Peers(distributed_option, _device(others["options"]))
        super().validate_one_epoch(
            iterator=_until_interrupted(iterator, reporter.whole.save_trained, peers),
            reporter=reporter,
            distributed_option=distributed_option,
            **others,
        )


class Peers:
    """The processes of a training, which decide together."""

    def __init__(self, option: DistributedOption, device: str) -> None:
        self.distributed = option.distributed
        self.rank = option.dist_rank if option.distributed else 0
        self.device = device

    def any(self, wishes: Sequence[bool]) -> list[bool]:
        """Of each wish, whether a process has it."""
        if not self.distributed:
            return list(wishes)
        counts = torch.tensor([int(wish) for wish in wishes], device=self.device)
        torch.distributed.all_reduce(counts, ReduceOp.SUM)
        return [count > 0 for count in counts.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """What all processes have."""
        if not self.distributed:
            return [value]
        values = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        if self.distributed:
            torch.distributed.barrier()


class Watched:
    """The batches of an epoch, from where it was interrupted, and whether each update came about.

    batches: those of the update that is being computed.
    done: batches that the epoch has seen.
    """

    def __init__(
        self,
        iterator: Iterable[Batch],
        parts: dict[str, Any],
        reporter: SubReporter,
        summary_writer: Any,
        options: GuardedOptions,
        distributed_option: DistributedOption,
    ) -> None:
        self.iterator, self.parts = iterator, parts
        self.reporter, self.summary_writer, self.options = reporter, summary_writer, options
        self.peers = Peers(distributed_option, _device(options))
        self.length = len(iterator) if hasattr(iterator, "__len__") else None
        self.log_interval = options.log_interval or (100 if self.length is None else max(self.length // 20, 10))
        self.whole: ContinuedReporter = reporter.whole
        self.within, self.whole.within = self.whole.within, None
        counts = self.within or {"num_batches": 0, "num_updates": 0, "num_skipped": 0}
        self.done, self.num_updates, self.num_skipped = (
            counts[name] for name in ("num_batches", "num_updates", "num_skipped")
        )
        self.saved, self.saved_at = self.done, time.monotonic()
        self.random: dict[str, Any] | None = None
        self.coming: Iterator[Batch] = iter(())
        self.batches: list[Batch] = []
        self.num_steps = 0
        self.hooks = [optimizer.register_step_post_hook(self._stepped) for optimizer in parts["optimizers"]]

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("not known")
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        self.coming = begin(self.iterator, self.done)
        if self.within is not None:
            self._set_random(self.within["random"])
        while True:
            self._look_back()
            batch = next(self.coming, None)
            if batch is None:
                return
            self.batches.append(batch)
            yield batch
            self.done += 1
            self._log()

    def close(self) -> None:
        """Leave the optimizers as they were, and end the processes that read: an error would keep them for long."""
        for hook in self.hooks:
            hook.remove()
        self.coming = iter(())

    def end(self) -> None:
        """All batches are done: from now on their state can be saved as it is now."""
        if self.done and not self.num_updates:
            raise TrainingError(f"no update of the epoch had a finite gradient. {self.advice()}")
        self.random = random_state()
        self.whole.save_trained = self.save

    def advice(self) -> str:
        """What to look at."""
        return (
            f"The last were {describe(self.batches)}. Look at these (silence? text of another utterance?); if others fail as "
            "well, lower the learning rate, warm up for longer, or lower the weights of kd_terms"
        )

    def save(self) -> None:
        """Write the state of the training, as of the last update; all processes have to call it."""
        random = self.peers.gather(self.random or random_state())
        model, *_ = self.parts.values()
        if self.peers.rank == 0:
            state = {
                "model": getattr(model, "module", model).state_dict(),
                "reporter": self.whole.finished_epochs(),
                "optimizers": [optimizer.state_dict() for optimizer in self.parts["optimizers"]],
                "schedulers": [part and part.state_dict() for part in self.parts["schedulers"]],
                "scaler": self.parts["scaler"] and self.parts["scaler"].state_dict(),
                "within": {
                    **{"num_batches": self.done, "num_updates": self.num_updates, "num_skipped": self.num_skipped},
                    "reported": reported(self.reporter),
                    "random": random,
                },
            }
            torch.save(state, Path(self.options.output_dir) / STATE)
            logging.info("State saved after batch %d of epoch %d", self.done, self.whole.get_epoch())
        self.peers.wait()
        self.saved, self.saved_at = self.done, time.monotonic()

    def _stepped(self, *_: Any) -> None:
        self.num_steps += 1

    def _log(self) -> None:
        if self.done % self.log_interval or self.options.no_forward_run:
            return
        logging.info(self.reporter.log_message(-self.log_interval))
        if self.summary_writer is not None:
            self.reporter.tensorboard_add_scalar(self.summary_writer, -self.log_interval)
        if self.options.use_wandb:
            self.reporter.wandb_log()

    def _look_back(self) -> None:
        if len(self.batches) < self.options.accum_grad:
            return
        if self.num_steps or self.options.no_forward_run:
            self.num_updates += 1
            self.num_skipped = 0
        else:
            self._skipped()
        self.batches, self.num_steps = [], 0
        due, stop = self.peers.any([self._is_due(), interruption.caught() is not None])
        if (due or stop) and self.done > self.saved:
            self.save()
        if stop:
            _end()

    def _skipped(self) -> None:
        self.num_skipped += 1
        # The gradient is the sum of all processes', any of which may have spoilt it.
        others = [utts for n, utts in enumerate(self.peers.gather(self._utts())) if n != self.peers.rank]
        beside = f"; other processes: {'; '.join(listed(utts) for utts in others)}" if others else ""
        logging.warning("No update: loss or gradient is not finite at %s%s", describe(self.batches), beside)
        if self.num_skipped >= self.options.max_skipped_updates:
            raise TrainingError(f"{self.num_skipped} updates in a row had no finite gradient. {self.advice()}{beside}")

    def _utts(self) -> list[str]:
        return [utt for names, _ in self.batches for utt in names]

    def _is_due(self) -> bool:
        every, minutes = self.options.save_every_updates, self.options.save_every_minutes
        if every and self.done // self.options.accum_grad % every == 0:
            return True
        return bool(minutes) and time.monotonic() - self.saved_at >= 60 * minutes

    def _set_random(self, states: list[dict[str, Any]]) -> None:
        if self.peers.rank < len(states):
            set_random_state(states[self.peers.rank])
        else:
            logging.warning("There are more processes than before: random numbers are others")


def _until_interrupted(iterator: Iterable[Batch], save: Callable[[], None], peers: Peers) -> Iterator[Batch]:
    batches = begin(iterator)
    while True:
        if peers.any([interruption.caught() is not None])[0]:
            save()
            del batches  # ends the processes that read
            _end()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _end() -> None:
    logging.warning(
        "%s: ends here with exit code %d; run again with --resume true, it goes on",
        interruption.caught() or "A signal to another process",
        interruption.INTERRUPTED,
    )
    raise Interrupted


def _device(options: TrainerOptions) -> str:
    return "cuda" if options.ngpu > 0 else "cpu"
