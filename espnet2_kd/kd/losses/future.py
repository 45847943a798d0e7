"""Future prediction (autoregressive predictive coding) against the teacher's features (Shim et al., 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.distance import frame_distance
from espnet2_kd.kd.losses.reduction import check_reduction, per_utterance
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq


@LOSSES.add("future")
class Future:
    """L_APC: `frame_distance(r_t, h_{t+shift})` over the frames t whose target `t + shift` is valid.

    Args:
        shift: K, in frames. The paper leaves it open; 4 frames are one 160 ms chunk at 40 ms.

    An utterance of at most `shift` frames gives 0.
    """

    reads = ("future",)

    def __init__(self, shift: int = 4, reduction: str = "sum") -> None:
        if shift < 1:
            raise ConfigError(f"future: shift {shift} must be at least 1 frame")
        self.shift = shift
        self.reduction = check_reduction(reduction)

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        r, h = student["future"], teacher["x"]
        if r.x.shape[1] <= self.shift:
            return r.x.float().sum(dim=(1, 2)) * 0.0  # keeps the head in the graph: DDP wants every parameter used
        mask = h.mask
        # A pair counts only if its later frame is valid; then the earlier one is.
        pair = mask[:, self.shift :]
        s = r.x.float()[:, : -self.shift].masked_fill(~pair.unsqueeze(-1), 0.0)
        t = h.x.float()[:, self.shift :].masked_fill(~pair.unsqueeze(-1), 0.0)
        return per_utterance(torch.where(pair, frame_distance(s, t), 0.0), pair, self.reduction)
