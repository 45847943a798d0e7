"""Turns a model into a distilled student by swapping its class in place, as FSDP2 does."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from espnet2_kd.kd.distiller import Distiller, Taps
from espnet2_kd.kd.lattice import JOINT
from espnet2_kd.kd.registry import ConfigError, nearest
from espnet2_kd.kd.taps import record, resolve_lens, tellers
from espnet2_kd.kd.teachers.teacher import Teacher
from espnet2_kd.kd.term import parse_terms

KD_PREFIX = "kd."
UNLABELLED = "unlabelled_"
AUTOCAST = "bfloat16"
LAYERS = "encoder.encoders"


def _autocast(model: nn.Module, batch: dict[str, Any]):
    if not isinstance(model, Autocast):
        return nullcontext()
    return torch.autocast(batch["speech"].device.type, getattr(torch, AUTOCAST))


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
        """`(loss, stats, weight)`; data named `unlabelled_*` is speech without labels, which the distillation loss alone sees."""
        unlabelled = {key.removeprefix(UNLABELLED): batch.pop(key) for key in list(batch) if key.startswith(UNLABELLED)}
        teacher: Teacher = self.__dict__["teacher"]
        shared = teacher.shared_paths(self)
        paths = self.kd.student_paths | tellers(self.kd.student_paths) | shared
        with record(self, paths) as recorded:
            loss, stats, weight = self.forward_task(**batch)
        unlabelled_taps = None
        with _autocast(self, batch):
            taps = _both_sides(self, teacher, recorded, batch)
            loss_teacher = teacher.take_loss()
            if unlabelled:
                # A pass of its own: together with the labelled speech, the longest utterance of both would pad all.
                with record(self, paths) as recorded:
                    _hear(self, unlabelled)
                unlabelled_taps = _both_sides(self, teacher, recorded, unlabelled)
            loss_kd, stats_kd = self.kd(taps, unlabelled_taps, weight)
        stats["loss_task"] = loss.detach()
        if loss_teacher is not None:
            stats["loss_teacher"] = loss_teacher.detach()
            loss = loss + loss_teacher
        # ESPnet2 averages over processes only what has the shape of its own loss, (1,).
        stats.update({name: value.reshape(loss.shape) for name, value in stats_kd.items()})
        loss = loss + loss_kd.to(loss.dtype)
        stats["loss"] = loss.detach()
        return loss, stats, weight


def _hear(model: nn.Module, batch: dict[str, Any]) -> None:
    """The part of the forward pass that needs no labels: `forward_unlabelled`, or of a recogniser the encoder."""
    getattr(model, "forward_unlabelled", model.encode)(batch["speech"], batch["speech_lengths"])


@torch.no_grad()
def compare_tokens(model: nn.Module, batch: dict[str, Any]) -> dict[str, list[torch.Tensor]]:
    """Of each term on vectors, the cosines (T, T) of what the student's head gives with the teacher's, for each utterance.

    `model` is a distilled student in evaluation mode, `batch` as its forward pass takes it.
    """
    teacher: Teacher = model.__dict__["teacher"]
    with record(
        model, model.kd.student_paths | tellers(model.kd.student_paths) | teacher.shared_paths(model)
    ) as recorded:
        model.forward_task(**batch)
    taps = _both_sides(model, teacher, recorded, batch)
    teacher.take_loss()
    found = {}
    for term in model.kd.terms:
        s, t = (side.get("x") for side in model.kd.compared(term, taps))
        if s is None or t is None or s.lens is None or s.x.dim() != 3:
            continue
        unit_s, unit_t = (torch.nn.functional.normalize(seq.x.float(), dim=-1) for seq in (s, t))
        cosines = unit_s @ unit_t.transpose(1, 2)
        found[term.name] = [matrix[:n, :n].cpu() for matrix, n in zip(cosines, s.lens.tolist(), strict=True)]
    return found


def _both_sides(model: nn.Module, teacher: Teacher, recorded: dict[str, Any], batch: dict[str, Any]) -> Taps:
    """What student and teacher gave for a batch; `recorded` is the student's pass."""
    shared = teacher.shared_paths(model)
    observed = teacher.observe(batch, {path: recorded[path] for path in shared if path in recorded})
    taps = {path: value for path, value in recorded.items() if path not in shared - model.kd.student_paths}
    return resolve_lens(taps, batch), observed


def use_autocast(model: nn.Module, dtype: str) -> nn.Module:
    """Run the model's forward pass under `torch.autocast`; parameters and names stay as they are.

    Raises:
        ConfigError: a dtype other than `bfloat16`; float16 wants its gradients scaled, which ESPnet2's `use_amp` does.
    """
    if dtype != AUTOCAST:
        raise ConfigError(f"autocast {dtype!r}: {AUTOCAST} is what can be; for float16 on a GPU set `use_amp: true`")
    _swap(model, Autocast)
    return model


def compile_layers(model: nn.Module, backend: str) -> list[str]:
    """Have `torch.compile` translate the layers of the encoder, one by one; return their paths.

    Hooks on a layer stay outside of what is compiled, so taps on its output are read as before. A layer with a tap inside stays as it
    is, since a compiled one runs no hooks of its parts that come and go.

    Raises:
        ConfigError: an unknown backend, an encoder without `encoders`.
    """
    if backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise ConfigError(f"compile {backend!r}: {nearest(backend, known)}")
    paths: set[str] = set()
    if isinstance(model, Distilled):
        teacher: Teacher = model.__dict__["teacher"]
        paths = model.kd.student_paths | teacher.shared_paths(model)
        if getattr(teacher, "model", None) is model:
            paths |= teacher.paths
    try:
        layers = list(model.get_submodule(LAYERS).named_children())
    except AttributeError:
        raise ConfigError(f"compile: {type(model.encoder).__name__} has no layers `encoders`") from None
    compiled = []
    for name, layer in layers:
        path = f"{LAYERS}.{name}"
        if not any(tap.startswith(f"{path}.") for tap in paths):
            # Sizes that change from batch to batch become symbols at the second one. Not from the start: of two sizes that are
            # equal by chance, such as a layer's width and the attention's blocks, torch would make one symbol.
            layer.forward = torch.compile(layer.forward, backend=backend)
            compiled.append(path)
    logging.info("torch.compile (%s): %d of %d layers of the encoder", backend, len(compiled), len(layers))
    return compiled


def distill(
    model: nn.Module,
    teacher: Teacher,
    kd_terms: list[dict[str, Any]],
    probe: dict[str, Any],
    unlabelled_probe: dict[str, Any] | None = None,
) -> nn.Module:
    """Make `model` a distilled student, in place: its class gains the distillation loss, its parameters keep their names.

    The teacher sits outside the module tree, so it is in neither `parameters()` nor `state_dict()`; the heads live under
    `kd.`.

    Args:
        kd_terms: the config's list, see `parse_terms`.
        probe: a small batch; it runs once through both models to check every tap and to size the heads.
        unlabelled_probe: the same without labels, if there will be unlabelled speech.

    Raises:
        ConfigError: a tap path, loss, head or keyword that does not exist, shapes that do not meet, or no term that unlabelled
            speech could serve.
    """
    terms = parse_terms(kd_terms)
    if JOINT in {path.split(":")[0] for term in terms for path in (term.student, term.teacher)}:
        # It would call the joint network again, beside the lattice, whenever the model is evaluated.
        if getattr(model, "error_calculator_trans", None) is not None:
            logging.warning("a term reads the transducer's lattice: cer_transducer and wer_transducer are not reported")
            model.error_calculator_trans = None
    teacher.join(model)
    for term in terms:
        term.teacher_attention = teacher.attention
    teacher.watch({path for term in terms for path in term.teacher_taps().values()})
    paths = {path for term in terms for path in term.student_taps().values()}
    was_training = model.training
    model.eval()
    # Forked: building with a probe must not change the random numbers that training draws afterwards.
    with (
        _autocast(model, probe),
        torch.no_grad(),
        torch.random.fork_rng(),
        record(model, paths | tellers(paths) | teacher.shared_paths(model)) as recorded,
    ):
        model(**probe)
        unused = sorted(paths - recorded.keys())
        if unused:
            raise ConfigError(f"student taps that never run: {', '.join(unused)}")
        shared = teacher.shared_paths(model)
        observed = teacher.observe(probe, {path: recorded[path] for path in shared if path in recorded})
        student = resolve_lens({path: value for path, value in recorded.items() if path not in shared - paths}, probe)
        teacher.take_loss()
    model.train(was_training)
    with _autocast(model, probe):
        model.kd = Distiller(terms, student, observed)
    # Through __dict__: nn.Module.__setattr__ would register it as a submodule.
    model.__dict__["teacher"] = teacher
    _swap(model, Distilled)
    if unlabelled_probe is not None:
        _check_unlabelled(model, unlabelled_probe)
    return model


@torch.no_grad()
def _check_unlabelled(model: nn.Module, probe: dict[str, Any]) -> None:
    was_training = model.training
    model.eval()
    teacher: Teacher = model.__dict__["teacher"]
    paths = model.kd.student_paths | tellers(model.kd.student_paths) | teacher.shared_paths(model)
    with _autocast(model, probe), torch.random.fork_rng(), record(model, paths) as recorded:
        _hear(model, probe)
        taps = _both_sides(model, teacher, recorded, probe)
    model.train(was_training)
    served = [term.name for term in model.kd.terms if model.kd.serves(term, taps)]
    if not served:
        names = ", ".join(term.name for term in model.kd.terms)
        raise ConfigError(
            f"unlabelled speech teaches nothing: every term ({names}) needs labels; tap the encoder, for example `student: encoder`"
        )
    logging.info("unlabelled speech teaches the terms %s", ", ".join(served))


def student_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state dict without the training-only parameters."""
    return {key: value for key, value in state.items() if not key.startswith(KD_PREFIX)}


def _swap(model: nn.Module, mixin: type) -> None:
    cls = type(model)
    model.__class__ = type(f"{mixin.__name__}{cls.__name__}", (mixin, cls), {"__module__": cls.__module__})
