"""Between frame rates: each student frame becomes several of the teacher's, or several become one."""

from __future__ import annotations

import torch
from torch import nn

from espnet2_kd.kd.heads import HEADS
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq


@HEADS.add("frame_rate")
class FrameRate(nn.Module):
    """Linear map to the teacher's width and frame rate.

    Args:
        up: teacher frames per student frame; each is a linear map of its own (a transposed convolution with stride and kernel `up`).
        down: student frames per teacher frame; their mean is mapped. An incomplete last group is left out.

    Raises:
        ConfigError: not exactly one of both, or less than 2.
    """

    def __init__(self, in_size: int, teacher_size: int, up: int | None = None, down: int | None = None) -> None:
        super().__init__()
        if (up is None) == (down is None) or (down if up is None else up) < 2:
            raise ConfigError("frame_rate: give `up: n` or `down: n`, 2 or more")
        self.up, self.down = up or 1, down or 1
        self.linear = nn.Linear(in_size, teacher_size * self.up)

    def forward(self, seq: Seq) -> dict[str, Seq]:
        """`(B, T, D_s)` -> `{x: (B, T', D_t)}`, T' = T up, or T // down."""
        x, lens = seq.x, seq.lens
        if self.down > 1:
            num = x.shape[1] // self.down
            x = x[:, : num * self.down].unflatten(1, (num, self.down)).mean(2)
            lens = torch.div(lens, self.down, rounding_mode="floor")
        x = self.linear(x)
        return {"x": Seq(x.reshape(x.shape[0], x.shape[1] * self.up, -1), lens * self.up)}
