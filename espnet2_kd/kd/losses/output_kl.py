"""Softened KL divergence between output distributions (Hinton et al., 2015)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.reduction import check_reduction, per_utterance
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq


@LOSSES.add("output_kl")
class OutputKL:
    """`tau^2 KL(teacher || student)` of the distributions over the last dimension, at temperature tau.

    Reads logits: `(B, T, V)` of a CTC or attention output layer, `(B, T, U, V)` of a transducer lattice (token-level
    distillation, Panchapagesan et al., 2021), `(B, V)` of a classifier. `reduction` runs over the valid positions: mean
    (default) or sum.
    """

    reads = ("x",)

    def __init__(self, temperature: float = 1.0, reduction: str = "mean") -> None:
        if temperature <= 0:
            raise ConfigError(f"output_kl: temperature {temperature} must be positive")
        self.temperature = temperature
        self.reduction = check_reduction(reduction)

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        s, t = student["x"], teacher["x"]
        if s.x.shape[-1] != t.x.shape[-1]:
            raise ConfigError(
                f"output_kl: {s.x.shape[-1]} student and {t.x.shape[-1]} teacher classes; use the same token list"
            )
        mask = s.mask
        a, b = (v.x.float().masked_fill(~mask.unsqueeze(-1), 0.0) / self.temperature for v in (s, t))
        log_s, log_t = F.log_softmax(a, dim=-1), F.log_softmax(b, dim=-1)
        kl = (log_t.exp() * (log_t - log_s)).sum(-1) * self.temperature**2
        return per_utterance(kl, mask, self.reduction)
