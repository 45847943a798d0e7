"""From a value per position to a number per utterance, padding excluded."""

from __future__ import annotations

import torch
from torch import Tensor

from espnet2_kd.kd.registry import ConfigError

REDUCTIONS = ("sum", "mean")


def check_reduction(reduction: str) -> str:
    """Raises: ConfigError: not `sum` or `mean`."""
    if reduction not in REDUCTIONS:
        raise ConfigError(f"reduction {reduction!r}: one of {', '.join(REDUCTIONS)}")
    return reduction


def per_utterance(values: Tensor, mask: Tensor, reduction: str) -> Tensor:
    """Sum or mean of `values` over the True positions of `mask` (same shape, `(B, ...)`) -> `(B,)`.

    An utterance without a valid position gives 0. Padding is replaced before the sum, so that a NaN in it cannot leak.
    """
    total = torch.where(mask, values, values.new_zeros(())).flatten(1).sum(1) if values.dim() > 1 else values * mask
    if reduction == "sum":
        return total
    count = mask.flatten(1).sum(1) if mask.dim() > 1 else mask
    return total / count.clamp(min=1)
