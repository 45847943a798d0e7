"""The batches that need most memory first, before hours have gone into a training."""

from __future__ import annotations

import logging
import resource
from collections.abc import Sequence

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.torch_utils.device_funcs import to_device
from espnet2.train.trainer import autocast_args

from espnet2_kd.kd.processes import alone
from espnet2_kd.tasks.training_data import TrainingIterFactory
from espnet2_kd.tasks.training_error import describe, memory_error

GIB = 2**30


def preflight(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    factory: AbsIterFactory,
    device: str,
    use_amp: bool = False,
) -> None:
    """Forward and backward pass over the largest batches, beside as much room as an optimizer will take; nothing changes.

    Raises:
        TrainingError: memory does not suffice; it names the utterances and what to set.
    """
    batches = factory.largest_batches() if isinstance(factory, TrainingIterFactory) else []
    if not batches:
        logging.info("No memory pre-flight: which batches are the largest is not known beforehand")
    for utts, batch in batches:
        # Said before: where the system ends a process for its memory, this line is all that remains.
        logging.info("Memory pre-flight: a batch of %s", describe([(utts, batch)]))
        try:
            _step(model, optimizers, {**to_device(batch, device), "utt_id": utts}, device, use_amp)
        except RuntimeError as error:
            explained = memory_error(error, [(utts, batch)])
            if explained is None:
                raise
            raise explained from error
        logging.info("Memory pre-flight: at most %.1f GiB in use", _peak(device) / GIB)


def _step(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    batch: dict[str, torch.Tensor],
    device: str,
    use_amp: bool,
) -> None:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    trained = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    # Two numbers per parameter are what Adam keeps.
    room = [torch.empty_like(p) for p in trained for _ in range(2)]
    was_training = model.training
    model.train()
    try:
        with torch.autocast(device, enabled=use_amp, **autocast_args if use_amp else {}):
            with alone():  # another process may have another number of batches here
                found = model(**batch)
            loss = found["loss"] if isinstance(found, dict) else found[0]
        loss.sum().backward()
    finally:
        del room
        model.train(was_training)
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def _peak(device: str) -> int:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_reserved()
