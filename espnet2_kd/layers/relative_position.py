"""Sinusoidal encoding of the distance between two frames."""

import math

import torch


def relative_positions(back: int, ahead: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Rows for the distances ``back, back - 1, ..., -ahead`` (query minus key position): (back + ahead + 1, size).

    There is no table and so no longest sequence. Same values as ESPnet2's RelPositionalEncoding (arXiv 1901.02860, B).

    like: a tensor of the wanted device and dtype.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    distance = torch.arange(back, -ahead - 1, -1, device=like.device, dtype=dtype)
    rate = torch.exp(torch.arange(0, size, 2, device=like.device, dtype=dtype) * (-math.log(10000.0) / size))
    angle = distance[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).to(like.dtype)
