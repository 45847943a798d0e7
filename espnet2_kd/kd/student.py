"""Turns a model into a distilled student by swapping its class in place, as FSDP2 does."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from espnet2_kd.kd.distiller import Distiller
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.taps import record, resolve_lens
from espnet2_kd.kd.teachers.teacher import Teacher
from espnet2_kd.kd.term import parse_terms

KD_PREFIX = "kd."
AUTOCAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def _autocast(model: nn.Module, batch: dict[str, Any]):
    dtype = model.__dict__.get("autocast_dtype")
    if dtype is None:
        return nullcontext()
    return torch.autocast(batch["speech"].device.type, dtype)


class Autocast:
    """Mixin: the forward pass runs in half precision where that is safe (ESPnet2's trainer enters CUDA autocast only)."""

    def forward(self, **batch):
        with _autocast(self, batch):
            return super().forward(**batch)


class Distilled:
    """Mixin: adds the distillation loss to the loss of an ESPnet2 model, `(loss, stats, weight) = model(**batch)`."""

    def forward_task(self, **batch):
        """The forward pass of the model as it is without distillation."""
        return super().forward(**batch)

    def forward(self, **batch):
        kd: Distiller = self.kd
        teacher: Teacher = self.__dict__["teacher"]
        # An encoder's own output tells the lengths of whatever was tapped inside it.
        shared = teacher.shared_paths(self)
        with record(self, kd.student_paths | {"encoder"} | shared) as recorded:
            loss, stats, weight = self.forward_task(**batch)
        with _autocast(self, batch):
            observed = teacher.observe(batch, {path: recorded[path] for path in shared if path in recorded})
            taps = {path: value for path, value in recorded.items() if path not in shared - kd.student_paths}
            loss_kd, stats_kd = kd(resolve_lens(taps, batch), observed)
        stats["loss_task"] = loss.detach()
        loss_teacher = teacher.take_loss()
        if loss_teacher is not None:
            stats["loss_teacher"] = loss_teacher.detach()
            loss = loss + loss_teacher
        stats.update(stats_kd)
        loss = loss + loss_kd.to(loss.dtype)
        stats["loss"] = loss.detach()
        return loss, stats, weight


def use_autocast(model: nn.Module, dtype: str) -> nn.Module:
    """Run the model's forward pass under `torch.autocast`; parameters and names stay as they are.

    Raises:
        ConfigError: a dtype other than `bfloat16` or `float16`.
    """
    if dtype not in AUTOCAST_DTYPES:
        raise ConfigError(f"autocast {dtype!r}: one of {', '.join(AUTOCAST_DTYPES)}")
    model.__dict__["autocast_dtype"] = AUTOCAST_DTYPES[dtype]
    _swap(model, Autocast)
    return model


def distill(model: nn.Module, teacher: Teacher, kd_terms: list[dict[str, Any]], probe: dict[str, Any]) -> nn.Module:
    """Make `model` a distilled student, in place: its class gains the distillation loss, its parameters keep their names.

    The teacher sits outside the module tree, so it is in neither `parameters()` nor `state_dict()`; the heads live under
    `kd.`.

    Args:
        kd_terms: the config's list, see `parse_terms`.
        probe: a small batch; it runs once through both models to check every tap and to size the heads.

    Raises:
        ConfigError: a tap path, loss, head or keyword that does not exist, or shapes that do not meet.
    """
    terms = parse_terms(kd_terms)
    teacher.join(model)
    teacher.watch({path for term in terms for path in term.teacher_taps().values()})
    paths = {path for term in terms for path in term.student_taps().values()}
    was_training = model.training
    model.eval()
    # Forked: building with a probe must not change the random numbers that training draws afterwards.
    with (
        _autocast(model, probe),
        torch.no_grad(),
        torch.random.fork_rng(),
        record(model, paths | {"encoder"}) as recorded,
    ):
        model(**probe)
        unused = sorted(paths - recorded.keys())
        if unused:
            raise ConfigError(f"student taps that never run: {', '.join(unused)}")
        student = resolve_lens(recorded, probe)
        observed = teacher.observe(probe, {})
        teacher.take_loss()
    model.train(was_training)
    with _autocast(model, probe):
        model.kd = Distiller(terms, student, observed)
    # Through __dict__: nn.Module.__setattr__ would register it as a submodule.
    model.__dict__["teacher"] = teacher
    _swap(model, Distilled)
    return model


def student_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state dict without the training-only parameters."""
    return {key: value for key, value in state.items() if not key.startswith(KD_PREFIX)}


def _swap(model: nn.Module, mixin: type) -> None:
    cls = type(model)
    model.__class__ = type(f"{mixin.__name__}{cls.__name__}", (mixin, cls), {"__module__": cls.__module__})
