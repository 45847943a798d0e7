"""Fewer frames in time."""

import torch
import torch.nn.functional as F
from torch import nn


def pool_pairs(x: torch.Tensor, lens: torch.Tensor, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Max over each two neighbouring frames, (B, T, D) and lengths (B,) -> (B, ceil(T / 2), D) and their lengths (B,).

    Padding never enters a maximum: a last odd frame stays as it is, and pairs that are padding alone become zeros.

    first: even number of frames before ``x``, where it is a piece of streams of ``lens`` frames.
    """
    padding = (torch.arange(first, first + x.shape[1], device=x.device) >= lens[:, None])[:, :, None]
    x = F.pad(x.masked_fill(padding, -torch.inf), (0, 0, 0, x.shape[1] % 2), value=-torch.inf)
    # A pair has a valid frame iff its first one is.
    return torch.maximum(x[:, ::2], x[:, 1::2]).masked_fill(padding[:, ::2], 0.0), (lens + 1) // 2


class SlowFrames(nn.Module):
    """Means of every ``rate`` frames, the last of what is left: (B, T, D), (B,) -> (B, ceil(T / rate), D), (B,).

    Raises ValueError for a rate below 1.
    """

    def __init__(self, rate: int) -> None:
        super().__init__()
        if rate < 1:
            raise ValueError(f"slow_rate {rate}: how many frames make one, from 1")
        self.rate = rate

    def forward(self, x: torch.Tensor, lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        valid = (torch.arange(x.shape[1], device=x.device) < lens[:, None])[:, :, None]
        short = -x.shape[1] % self.rate
        sums = F.pad(x.masked_fill(~valid, 0.0), (0, 0, 0, short)).unflatten(1, (-1, self.rate)).sum(2)
        counts = F.pad(valid.to(x.dtype), (0, 0, 0, short)).unflatten(1, (-1, self.rate)).sum(2)
        return sums / counts.clamp(min=1.0), torch.div(lens + self.rate - 1, self.rate, rounding_mode="floor")
