"""Continuous integrate-and-fire in two loops for the CPU, compiled by numba: every frame is read once in each direction.

The operators of `bag` are fast on long inputs; on short ones, the dozens that find out which frames make which tokens take longer
than the sums. Here both are one pass, and nothing is saved between the passes but the frames and their weights.

Only imported when asked for: importing numba takes half a second, and compiling three, once on a machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnet2_kd.ops.cif.bag import wide

# Sums over features in the order that suits vectors; sums over frames stay in theirs, which decides where tokens fire.
_VECTORS = {"contract", "reassoc", "nsz"}


def _compile(**options: object) -> Callable:
    """`numba.njit` whose code is kept on disk, where there is a place for it."""

    def wrap(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # neither this folder nor the user's can be written to
            return numba.njit(nogil=True, **options)(function)

    return wrap


class LoopIntegrate(torch.autograd.Function):
    """Tokens `(B, U, C)` in float32 or better, as `bag.Integrate`. No second derivative.

    h `(B, T, C)` of any precision and alpha `(B, T)`, on the CPU, not empty, and never read beyond lens `(B,)`;
    start: float64 `(B,)` or None for 0; num_fires: `(B,)` or None for `num_rows - 1`; num_rows: `(B,)`, none above U.

    Raises:
        ValueError: a negative weight.
    """

    @staticmethod
    def forward(ctx, h, alpha, lens, start, num_fires, num_rows, size, threshold):
        start = torch.zeros(len(h), dtype=torch.float64) if start is None else start
        num_fires = num_rows - 1 if num_fires is None else num_fires
        ctx.save_for_backward(h, alpha, lens, start, num_fires, num_rows)
        ctx.threshold = float(threshold)
        frames = wide(h).detach().contiguous()
        fired = torch.empty(len(h), size, h.shape[2], dtype=frames.dtype)
        plan = _arrays(alpha.double(), lens, start, num_fires, num_rows)
        if _tokens(frames.numpy(), *plan, ctx.threshold, fired.numpy()) < 0:
            raise ValueError("alpha holds negative weights")
        return fired

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        h, alpha, *counts = ctx.saved_tensors
        frames = wide(h).detach().contiguous()
        grad_h = torch.empty_like(frames)
        grad_alpha = torch.empty(alpha.shape, dtype=torch.float64)
        arrays = [x.numpy() for x in (grad.contiguous(), grad_h, grad_alpha)]
        _gradients(frames.numpy(), *_arrays(alpha.double(), *counts), ctx.threshold, *arrays)
        return grad_h.to(h.dtype), grad_alpha.to(alpha.dtype), *[None] * 6


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [x.detach().contiguous().numpy() for x in tensors]


@_compile(fastmath=_VECTORS)
def _add(total, b, i, weight, rows, t):
    """total[b, i] += weight * rows[b, t], in their precision."""
    weight = total.dtype.type(weight)
    for c in range(total.shape[2]):
        total[b, i, c] += weight * rows[b, t, c]


@_compile(fastmath=_VECTORS)
def _put_and_multiply(total, b, t, weight, rows, i, frames):
    """total[b, t] = weight * rows[b, i]; returns the product of rows[b, i] and frames[b, t]."""
    weight = total.dtype.type(weight)
    product = total.dtype.type(0)
    for c in range(total.shape[2]):
        total[b, t, c] = weight * rows[b, i, c]
        product += rows[b, i, c] * frames[b, t, c]
    return np.float64(product)


@_compile(fastmath=_VECTORS)
def _add_and_multiply(total, b, t, weight, rows, i, frames):
    """The same with total[b, t] += weight * rows[b, i]; clearing before, to do without the other, makes a pass a sixth longer."""
    weight = total.dtype.type(weight)
    product = total.dtype.type(0)
    for c in range(total.shape[2]):
        total[b, t, c] += weight * rows[b, i, c]
        product += rows[b, i, c] * frames[b, t, c]
    return np.float64(product)


@_compile()
def _clear(rows, b, i):
    for c in range(rows.shape[2]):
        rows[b, i, c] = 0


@_compile()
def _lowest(alpha, b, num):
    """Lowest weight, or 0, and whether all can be summed in order."""
    lowest, known = 0.0, True
    for t in range(num):
        lowest = min(lowest, alpha[b, t])
        known = known and alpha[b, t] >= 0.0 and alpha[b, t] < np.inf
    return lowest, known


@_compile()
def _tokens(h, alpha, lens, start, num_fires, num_rows, threshold, fired):
    """Tokens; returns the lowest weight, if that is negative."""
    lowest = 0.0
    for b in range(h.shape[0]):
        num = max(min(lens[b], h.shape[1]), 0)
        least, known = _lowest(alpha, b, num)
        lowest = min(lowest, least)
        i, done, summed = 0, start[b], 0.0
        _clear(fired, b, 0)
        for t in range(num):
            if known:
                summed += alpha[b, t]
            after = start[b] + summed
            fires = True
            while fires:
                fires = i < num_fires[b] and (i + 1) * threshold <= after
                end = (i + 1) * threshold if fires else after
                if i < num_rows[b]:
                    _add(fired, b, i, end - done if known else np.nan, h, t)
                done = end
                if fires:
                    i += 1
                    if i < fired.shape[1]:
                        _clear(fired, b, i)
        for u in range(i + 1, fired.shape[1]):
            _clear(fired, b, u)
    return lowest


@_compile()
def _gradients(h, alpha, lens, start, num_fires, num_rows, threshold, grad, grad_h, grad_alpha):
    """Gradients of frames and of weights."""
    for b in range(h.shape[0]):
        num = max(min(lens[b], h.shape[1]), 0)
        _, known = _lowest(alpha, b, num)
        i, done, summed, before = 0, start[b], 0.0, 0.0
        for t in range(num):
            if known:
                summed += alpha[b, t]
            after = start[b] + summed
            head, product, fires = i, 0.0, True
            while fires:
                fires = i < num_fires[b] and (i + 1) * threshold <= after
                end = (i + 1) * threshold if fires else after
                share = end - done if known else np.nan
                if i >= num_rows[b]:
                    product = 0.0
                    if i == head:
                        _clear(grad_h, b, t)
                elif i == head:
                    product = _put_and_multiply(grad_h, b, t, share, grad, i, h)
                else:
                    product = _add_and_multiply(grad_h, b, t, share, grad, i, h)
                # Moving the end of a frame gives to its last token what it takes from the first one of the next frame.
                if i == head and t > 0:
                    grad_alpha[b, t - 1] = before - product
                done = end
                i += fires
            before = product
        if num:
            grad_alpha[b, num - 1] = before
        # Of each frame, the sum over it and all that follow.
        for t in range(num - 2, -1, -1):
            grad_alpha[b, t] += grad_alpha[b, t + 1]
        for t in range(num, h.shape[1]):
            grad_alpha[b, t] = 0.0
            _clear(grad_h, b, t)
