"""Feature distance of DistilHuBERT (Chang et al., ICASSP 2022), as the streaming paper uses it (Shim et al., 2023)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.reduction import check_reduction, per_utterance
from espnet2_kd.kd.seq import Seq


def frame_distance(s: Tensor, t: Tensor) -> Tensor:
    """`(1/D) ||t - s||_1 - log sigmoid(cos(t, s))` over the last dimension: `(..., D)`, `(..., D)` -> `(...)`.

    Its floor is `-log sigmoid(1) = 0.3133`, not 0. The epsilon keeps the gradient of a zero vector finite.
    """
    return (t - s).abs().mean(-1) - F.logsigmoid(F.cosine_similarity(s, t, dim=-1, eps=1e-6))


@LOSSES.add("distance")
class Distance:
    """L_DIS: `frame_distance` summed over the valid frames (the paper's small weights presume the sum)."""

    reads = ("x",)

    def __init__(self, reduction: str = "sum") -> None:
        self.reduction = check_reduction(reduction)

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        mask = student["x"].mask
        s, t = (v["x"].x.float().masked_fill(~mask.unsqueeze(-1), 0.0) for v in (student, teacher))
        return per_utterance(frame_distance(s, t), mask, self.reduction)
