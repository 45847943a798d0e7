"""The products of `Plan` with frames and tokens, as sums of weighted rows: exact, without atomic additions, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnet2_kd.ops.cif.plan import make_plan

# Not public, but native on CPU and CUDA and twice as fast as what can be written without it.
_ENTRY_DOTS = getattr(torch.ops.aten, "_embedding_bag_per_sample_weights_backward", None)
SLICE = 4096  # entries whose rows are copied at once where that operator is missing


class Integrate(torch.autograd.Function):
    """Tokens `(B, U, C)` of `make_plan` in float32 or better; saves the frames, as they come, and indices. No second derivative."""

    @staticmethod
    def forward(ctx, h, alpha, lens, start, num_fires, num_rows, size, threshold):
        batch_size, num_frames, width = h.shape
        plan = make_plan(alpha, lens, start, num_fires, num_rows, size, threshold)
        flat = wide(h).reshape(batch_size * num_frames, width)
        weight = plan.weight.to(flat.dtype)
        fired = _weighted_sums(flat, plan.frame, plan.token_offsets, weight)
        ctx.save_for_backward(h, plan.frame, plan.token, weight, plan.dead, plan.frame_end, plan.frame_offsets)
        # No change in place from here on: of a view, it would make torch.compile return gradients of zero.
        return fired.view(batch_size, size + 1, width)[:, :size]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        h, frame, token, weight, dead, frame_end, frame_offsets = ctx.saved_tensors
        batch_size, num_frames, width = h.shape
        rows = grad.reshape(-1, width)
        grad_h = _weighted_sums(rows, token, frame_offsets, weight).view(batch_size, num_frames, width).to(h.dtype)
        dots = entry_dots(rows, wide(h).reshape(-1, width), frame, frame_offsets, token)
        dots = F.pad(dots.view_as(weight).double().masked_fill(dead, 0.0), (0, 1))
        # Moving the end of a frame gives to the entry before it what it takes from the entry after it.
        grad_sums = dots.gather(1, frame_end) - dots.gather(1, frame_end + 1)
        # Of each frame, the sum over it and all that follow: flipping there and back would copy twice.
        grad_alpha = grad_sums.sum(1, keepdim=True) - grad_sums.cumsum(1) + grad_sums
        return grad_h, grad_alpha, *[None] * 6


def wide(h: Tensor) -> Tensor:
    """`h` in a precision to sum in."""
    return h if h.dtype == torch.float64 else h.float()


def _weighted_sums(rows: Tensor, index: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    return F.embedding_bag(index.view(-1), rows, offsets, mode="sum", per_sample_weights=weight.view(-1))


def entry_dots(tokens: Tensor, frames: Tensor, frame: Tensor, frame_offsets: Tensor, token: Tensor) -> Tensor:
    """Product of each entry's token and frame (B * N,): rows of `(B * U, C)` and `(B * T, C)`."""
    frame, token = frame.view(-1), token.view(-1)
    if _ENTRY_DOTS is not None:
        return _ENTRY_DOTS(tokens, frames, frame, frame_offsets, token, 0)
    pieces = zip(token.split(SLICE), frame.split(SLICE), strict=True)
    return torch.cat([(tokens[u] * frames[t]).sum(-1) for u, t in pieces])
