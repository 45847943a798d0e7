"""Softened KL divergence between output distributions (Hinton et al., 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.kd.lattice import by_slices, slice_frames
from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.reduction import check_reduction, per_utterance
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq

BLANK = 0


@LOSSES.add("output_kl")
class OutputKL:
    """`tau^2 KL(teacher || student)` of the distributions over the last dimension, at temperature tau.

    Reads logits: `(B, T, V)` of a CTC or attention output layer, `(B, T, U, V)` of a transducer lattice (token-level
    distillation, Panchapagesan et al., 2021), `(B, V)` of a classifier.

    Args:
        temperature: tau.
        reduction: over the valid positions, `mean` or `sum`.
        collapsed: of a lattice, compare {next label, blank, anything else} only, as that paper does.
        slots: numbers of classes of several answers that stand side by side in V, each a distribution of its own; their
            divergences are summed. None: as the teacher says, whose `classes` of hf_sentence do, or one distribution.
        shift: compare teacher frame t with student frame t + shift: a student that hears no future emits later.
    """

    reads = ("x",)

    def __init__(
        self,
        temperature: float = 1.0,
        reduction: str = "mean",
        collapsed: bool = False,
        shift: int = 0,
        slots: list[int] | None = None,
    ) -> None:
        if temperature <= 0:
            raise ConfigError(f"output_kl: temperature {temperature} must be positive")
        if shift < 0:
            raise ConfigError(
                f"output_kl: shift {shift} must not be negative: a student cannot emit before its teacher"
            )
        self.temperature = temperature
        self.reduction = check_reduction(reduction)
        self.collapsed = collapsed
        self.shift = shift
        self.slots = slots

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        s, t = student["x"], teacher["x"]
        if s.x.shape[-1] != t.x.shape[-1]:
            raise ConfigError(
                f"output_kl: {s.x.shape[-1]} student and {t.x.shape[-1]} teacher classes; use the same token list"
            )
        if self.slots is not None and sum(self.slots) != s.x.shape[-1]:
            raise ConfigError(f"output_kl: slots of {sum(self.slots)} classes in all, and {s.x.shape[-1]} outputs")
        slots = t.slots if self.slots is None else torch.arange(s.x.shape[-1]).split(self.slots)
        if self.collapsed and s.labels is None:
            raise ConfigError("output_kl: `collapsed` needs the lattice of a transducer, tapped at its joint network")
        if self.shift and s.lens is None:
            raise ConfigError("output_kl: `shift` needs frames, not one vector per utterance")
        x, mask = s.x, s.mask
        if self.shift:
            x, mask = x[:, self.shift :], mask[:, self.shift :]

        def divergence(part: Tensor, frames: slice) -> Tensor:
            one_vector = part.dim() == 2
            valid = (mask if one_vector else mask[:, frames]).unsqueeze(-1)
            targets = t.x if one_vector else t.x[:, frames] if isinstance(t.x, Tensor) else t.x[frames]
            # Frames that the shift leaves without a partner are at the end.
            log_s, log_t = (
                self._log_probs(v[:, : part.shape[1]].float().masked_fill(~valid, 0.0), s, slots)
                for v in (part, targets)
            )
            return _kl(log_t, log_s) * self.temperature**2

        if x.dim() == 4:
            kl = by_slices(x, divergence, slice_frames(x))
        else:
            kl = divergence(x, slice(None))
        return per_utterance(kl, mask, self.reduction)

    def _log_probs(self, logits: Tensor, lattice: Seq, slots: Sequence[Any] | None) -> Tensor:
        logits = logits / self.temperature
        if self.collapsed:
            return _collapse(logits, lattice)
        parts = [logits] if slots is None else [logits[..., ids] for ids in slots]
        parts = [F.log_softmax(part, dim=-1) for part in parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _kl(log_t: Tensor, log_s: Tensor) -> Tensor:
    # A class that cannot be, such as a label after the last, has probability 0 on both sides and adds nothing.
    possible = log_t > -math.inf
    difference = torch.where(possible, log_t, 0.0) - torch.where(possible, log_s, 0.0)
    return (log_t.exp() * difference).sum(-1)


def _collapse(logits: Tensor, lattice: Seq) -> Tensor:
    """Log-probabilities `(B, n, U, 3)` of blank, the next label and all others, of logits `(B, n, U, V)`."""
    labels = F.pad(lattice.labels.clamp(min=BLANK), (0, 1), value=BLANK)[:, : logits.shape[2]]
    # After its last label an utterance has none to come: the place holder is blank, counted once.
    has_next = torch.arange(logits.shape[2], device=logits.device) < (lattice.label_lens - 1).unsqueeze(1)
    has_next = has_next.unsqueeze(1).expand(logits.shape[:3])
    index = labels[:, None, :, None].expand(*logits.shape[:3], 1)
    blank, label = logits[..., BLANK], logits.gather(-1, index).squeeze(-1)
    label = label.masked_fill(~has_next, -math.inf)
    others = logits.scatter(-1, index, -math.inf)
    others = others.index_fill(-1, torch.tensor([BLANK], device=logits.device), -math.inf).logsumexp(-1)
    return F.log_softmax(torch.stack((blank, label, others), dim=-1), dim=-1)
