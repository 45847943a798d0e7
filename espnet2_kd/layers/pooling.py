"""Max-pooling of frames in time."""

import torch
import torch.nn.functional as F


def pool_pairs(x: torch.Tensor, lens: torch.Tensor, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Max over each two neighbouring frames, (B, T, D) and lengths (B,) -> (B, ceil(T / 2), D) and their lengths (B,).

    Padding never enters a maximum: a last odd frame stays as it is, and pairs that are padding alone become zeros.

    first: even number of frames before ``x``, where it is a piece of streams of ``lens`` frames.
    """
    padding = (torch.arange(first, first + x.shape[1], device=x.device) >= lens[:, None])[:, :, None]
    x = F.pad(x.masked_fill(padding, -torch.inf), (0, 0, 0, x.shape[1] % 2), value=-torch.inf)
    # A pair has a valid frame iff its first one is.
    return torch.maximum(x[:, ::2], x[:, 1::2]).masked_fill(padding[:, ::2], 0.0), (lens + 1) // 2
