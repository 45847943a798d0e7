"""Plain regression on features: the losses every user tries first."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.reduction import check_reduction, per_utterance
from espnet2_kd.kd.seq import Seq


class _Regression:
    reads = ("x",)

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check_reduction(reduction)

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        s, t = student["x"], teacher["x"]
        mask = s.mask
        # Padding may hold anything, NaN included: a masked loss alone would still send NaN gradients back.
        a, b = (v.x.float().masked_fill(~mask.unsqueeze(-1), 0.0) for v in (s, t))
        return per_utterance(self.position(a, b), mask, self.reduction)


@LOSSES.add("mse")
class MSE(_Regression):
    """Squared error; over time the mean (default) or the sum.

    Args:
        dims: `mean` over the D dimensions, or their `sum`, for which HieraDist's weight of 0.01 is meant.
    """

    def __init__(self, reduction: str = "mean", dims: str = "mean") -> None:
        super().__init__(reduction)
        self.dims = check_reduction(dims)

    def position(self, s: Tensor, t: Tensor) -> Tensor:
        squared = (s - t).square()
        return squared.sum(-1) if self.dims == "sum" else squared.mean(-1)


@LOSSES.add("l1")
class L1(_Regression):
    """Absolute error averaged over the D dimensions; over time the mean (default) or the sum."""

    def position(self, s: Tensor, t: Tensor) -> Tensor:
        return (s - t).abs().mean(-1)


@LOSSES.add("cosine")
class Cosine(_Regression):
    """`1 - cos(student, teacher)`; over time the mean (default) or the sum."""

    def position(self, s: Tensor, t: Tensor) -> Tensor:
        return 1.0 - F.cosine_similarity(s, t, dim=-1, eps=1e-6)
