# ruff: noqa: N803  (constants of Triton kernels are in capitals)
"""Continuous integrate-and-fire in four Triton kernels: plan, tokens; gradients of frames, gradients of weights.

All programs gather, so there are no atomic additions and results do not vary. Nothing waits for the GPU, and no shape
depends on the data. The kernels do the checking of lengths and the changes of precision themselves: where the frames are
few, every small operation before or after them would cost as much as a kernel.

Only imported when asked for, since a CPU build of torch has no Triton. Set TRITON_INTERPRET=1 before the first import to
run the kernels on the CPU, very slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

# Sizes of a program's piece, not tuned on any GPU yet.
SCAN = 1024  # weights that are summed, tokens that are looked for at once
FRAMES = 8  # frames that are added to a token at once
WIDTH = 512  # features at most
TILE = 4096  # frames times features of which the gradients are found at once


@triton.jit
def _plan_kernel(
    alpha, lens, start, num_fires, num_rows, sums, fires, begins, num_frames, size, steps, alpha_b, alpha_t,
    THRESHOLD: tl.constexpr, HAS_START: tl.constexpr, HAS_FIRES: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """One utterance: the summed weights before and after each frame (T + 1), how many tokens have ended by then (T + 1), and
    the frame in which each token begins (U + 1): the first one after which so many have ended."""
    b = tl.program_id(0).to(tl.int64)
    length = tl.minimum(tl.load(lens + b), num_frames)
    most = tl.load(num_fires + b) if HAS_FIRES else tl.load(num_rows + b) - 1
    threshold = tl.full([], THRESHOLD, tl.float64)  # a float argument would arrive in float32
    before = tl.load(start + b) if HAS_START else tl.full([], 0.0, tl.float64)
    row = b * (num_frames + 1)
    tl.store(sums + row, before)
    tl.store(fires + row, _ended(before, threshold, most))
    for first in range(0, num_frames, SIZE):
        i = tl.arange(0, SIZE)
        t = first + i
        weight = tl.load(alpha + b * alpha_b + t.to(tl.int64) * alpha_t, mask=t < length, other=0.0)
        after = before + tl.cumsum(weight.to(tl.float64), 0)
        tl.store(sums + row + 1 + t, after, mask=t < num_frames)
        tl.store(fires + row + 1 + t, _ended(after, threshold, most), mask=t < num_frames)
        before = tl.sum(tl.where(i == SIZE - 1, after, 0.0), 0)
    tl.debug_barrier()  # what follows reads what other threads of this program have written
    for first in range(0, size + 1, SIZE):
        u = first + tl.arange(0, SIZE)
        low = tl.zeros([SIZE], tl.int32)
        high = low + length.to(tl.int32)
        for _ in range(steps):
            middle = (low + high) // 2
            count = tl.load(fires + row + 1 + middle, mask=low < high, other=0)
            left = (low < high) & (count < u)
            right = (low < high) & (count >= u)
            low = tl.where(left, middle + 1, low)
            high = tl.where(right, middle, high)
        tl.store(begins + b * (size + 1) + u, low, mask=u <= size)


@triton.jit
def _ended(mass, threshold, most):
    count = tl.floor(mass / threshold)
    # The quotient is rounded: the multiple decides.
    count = tl.where(count * threshold > mass, count - 1.0, count)
    count = tl.where((count + 1.0) * threshold <= mass, count + 1.0, count)
    # Bounded on both sides, so that weights that are no numbers do not lead out of the buffers.
    most = tl.maximum(most, 0)
    return tl.maximum(tl.minimum(count, most.to(tl.float64)).to(tl.int32), 0)


@triton.jit
def _share(mass_before, mass_after, ended_before, ended_after, u, THRESHOLD: tl.constexpr):
    """Weight that token u has of each frame, float64; 0 where they do not meet."""
    threshold = tl.full([], THRESHOLD, tl.float64)
    begin = u * threshold
    low = tl.where(ended_before < u, 0.0, mass_before - begin)
    high = tl.where(ended_after > u, threshold, mass_after - begin)
    return tl.where((ended_before <= u) & (ended_after >= u), high - low, 0.0)


@triton.jit
def _tokens_kernel(
    h, sums, fires, begins, lens, num_rows, fired, num_frames, size, width, h_b, h_t, h_c,
    THRESHOLD: tl.constexpr, SUM: tl.constexpr, NUM: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """One token: its frames are read and added. A frame that two tokens share is in the cache the second time."""
    u = tl.program_id(0)
    b = tl.program_id(1).to(tl.int64)
    c = tl.program_id(2) * PIECE + tl.arange(0, PIECE)
    length = tl.minimum(tl.load(lens + b), num_frames).to(tl.int32)
    row = b * (num_frames + 1)
    begin = tl.load(begins + b * (size + 1) + u)
    end = tl.minimum(tl.load(begins + b * (size + 1) + u + 1) + 1, length)
    end = tl.where(u < tl.load(num_rows + b), end, begin)
    token = tl.zeros([PIECE], SUM)
    for first in range(begin, end, NUM):
        t = first + tl.arange(0, NUM)
        here = t < end
        mass_before = tl.load(sums + row + t, mask=here, other=0.0)
        mass_after = tl.load(sums + row + 1 + t, mask=here, other=0.0)
        ended_before = tl.load(fires + row + t, mask=here, other=0)
        ended_after = tl.load(fires + row + 1 + t, mask=here, other=0)
        weight = tl.where(here, _share(mass_before, mass_after, ended_before, ended_after, u, THRESHOLD), 0.0).to(SUM)
        at = h + b * h_b + t.to(tl.int64)[:, None] * h_t + c[None, :] * h_c
        frames = tl.load(at, mask=here[:, None] & (c[None, :] < width), other=0.0).to(SUM)
        token += tl.sum(weight[:, None] * frames, 0)
    tl.store(fired + (b * size + u) * width + c, token.to(fired.dtype.element_ty), mask=c < width)


@triton.jit
def _frames_kernel(
    grad, h, sums, fires, lens, num_rows, grad_h, dots, batch_size, num_frames, size, width,
    grad_b, grad_u, grad_c, h_b, h_t, h_c,
    THRESHOLD: tl.constexpr, SUM: tl.constexpr, NUM: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Some frames: their gradients, and the products of each with the tokens in which it begins and ends."""
    b = tl.program_id(1).to(tl.int64)
    t = tl.program_id(0) * NUM + tl.arange(0, NUM)
    here = t < tl.minimum(tl.load(lens + b), num_frames)
    row = b * (num_frames + 1)
    mass_before = tl.load(sums + row + t, mask=here, other=0.0)
    mass_after = tl.load(sums + row + 1 + t, mask=here, other=0.0)
    ended_before = tl.load(fires + row + t, mask=here, other=0)
    ended_after = tl.load(fires + row + 1 + t, mask=here, other=0)
    rows = tl.minimum(tl.load(num_rows + b), size).to(tl.int32)
    begin = tl.min(tl.where(here, ended_before, rows), 0)
    end = tl.minimum(tl.max(tl.where(here, ended_after, -1), 0) + 1, rows)
    dots_before = tl.zeros([NUM], SUM)
    dots_after = tl.zeros([NUM], SUM)
    for first in range(0, width, PIECE):
        c = first + tl.arange(0, PIECE)
        at = h + b * h_b + t.to(tl.int64)[:, None] * h_t + c[None, :] * h_c
        frames = tl.load(at, mask=here[:, None] & (c[None, :] < width), other=0.0).to(SUM)
        total = tl.zeros([NUM, PIECE], SUM)
        for u in range(begin, end):
            token = tl.load(grad + b * grad_b + u * grad_u + c * grad_c, mask=c < width, other=0.0).to(SUM)
            weight = _share(mass_before, mass_after, ended_before, ended_after, u, THRESHOLD).to(SUM)
            meet = here & (ended_before <= u) & (ended_after >= u)
            # Left out rather than multiplied by 0: an infinite gradient of a token stays with its own frames.
            total += tl.where(meet[:, None], weight[:, None] * token[None, :], 0.0)
            product = tl.sum(frames * token[None, :], 1)
            dots_before += tl.where(here & (ended_before == u), product, 0.0)
            dots_after += tl.where(here & (ended_after == u), product, 0.0)
        at = grad_h + (b * num_frames + t[:, None]) * width + c[None, :]
        mask = (t[:, None] < num_frames) & (c[None, :] < width)
        tl.store(at, total.to(grad_h.dtype.element_ty), mask=mask)
    tl.store(dots + b * num_frames + t, dots_before, mask=t < num_frames)
    tl.store(dots + (batch_size + b) * num_frames + t, dots_after, mask=t < num_frames)


@triton.jit
def _weights_kernel(dots, lens, grad_alpha, batch_size, num_frames, SIZE: tl.constexpr):
    """One utterance: the end of a frame gives to it what it takes from the next one; a weight moves all ends after it."""
    b = tl.program_id(0).to(tl.int64)
    length = tl.load(lens + b)
    behind = tl.full([], 0.0, tl.float64)
    for first in range(0, num_frames, SIZE):
        i = tl.arange(0, SIZE)
        t = num_frames - 1 - first - i
        given = tl.load(dots + (batch_size + b) * num_frames + t, mask=t >= 0, other=0.0).to(tl.float64)
        mask = (t >= 0) & (t + 1 < num_frames)
        taken = tl.load(dots + b * num_frames + t + 1, mask=mask, other=0.0).to(tl.float64)
        total = behind + tl.cumsum(given - taken, 0)
        valid = tl.where(t < length, total, 0.0)
        tl.store(grad_alpha + b * num_frames + t, valid.to(grad_alpha.dtype.element_ty), mask=t >= 0)
        behind = tl.sum(tl.where(i == SIZE - 1, total, 0.0), 0)


INTERPRETED = not isinstance(_plan_kernel, triton.runtime.JITFunction)


class FusedIntegrate(torch.autograd.Function):
    """Tokens `(B, U, C)` in `dtype`, as `bag.Integrate`; saves the frames and two numbers for each. No second derivative.

    h `(B, T, C)` of any precision, alpha `(B, T)` float32 or float64; both of any strides, not empty, and never read beyond
    lens `(B,)`;
    start: float64 `(B,)` or None for 0; num_fires: `(B,)` or None for `num_rows - 1`; num_rows: `(B,)`, none above U.
    """

    @staticmethod
    def forward(ctx, h, alpha, lens, start, num_fires, num_rows, size, threshold, dtype):
        batch_size, num_frames, width = h.shape
        lens, num_rows = lens.contiguous(), num_rows.contiguous()
        sums = torch.empty(batch_size, num_frames + 1, dtype=torch.float64, device=h.device)
        fires = torch.empty(batch_size, num_frames + 1, dtype=torch.int32, device=h.device)
        begins = torch.empty(batch_size, size + 1, dtype=torch.int32, device=h.device)
        fired = torch.empty(batch_size, size, width, dtype=dtype, device=h.device)
        threshold = float(threshold)
        with torch.cuda.device_of(h):
            _plan_kernel[(batch_size,)](
                alpha, lens, num_rows if start is None else start.contiguous(),
                num_rows if num_fires is None else num_fires.contiguous(), num_rows, sums, fires, begins, num_frames,
                size, num_frames.bit_length(), *alpha.stride(), THRESHOLD=threshold, HAS_START=start is not None,
                HAS_FIRES=num_fires is not None, SIZE=_scan_size(num_frames),
            )  # fmt: skip
            piece = _piece(width)
            _tokens_kernel[(size, batch_size, triton.cdiv(width, piece))](
                h, sums, fires, begins, lens, num_rows, fired, num_frames, size, width, *h.stride(),
                THRESHOLD=threshold, SUM=_precision(h)[1], NUM=FRAMES, PIECE=piece,
            )  # fmt: skip
        ctx.save_for_backward(h, sums, fires, lens, num_rows)
        ctx.threshold, ctx.alpha_dtype = threshold, alpha.dtype
        return fired

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        h, sums, fires, lens, num_rows = ctx.saved_tensors
        batch_size, num_frames, width = h.shape
        wide, precision = _precision(h)
        grad_h = torch.empty(h.shape, dtype=h.dtype, device=h.device)
        grad_alpha = torch.empty(batch_size, num_frames, dtype=ctx.alpha_dtype, device=h.device)
        dots = torch.empty(2, batch_size, num_frames, dtype=wide, device=h.device)
        piece = _piece(width)
        num = min(TILE // piece, 32)
        with torch.cuda.device_of(h):
            _frames_kernel[(triton.cdiv(num_frames, num), batch_size)](
                grad, h, sums, fires, lens, num_rows, grad_h, dots, batch_size, num_frames, grad.shape[1], width,
                *grad.stride(), *h.stride(), THRESHOLD=ctx.threshold, SUM=precision, NUM=num, PIECE=piece,
            )  # fmt: skip
            _weights_kernel[(batch_size,)](dots, lens, grad_alpha, batch_size, num_frames, SIZE=_scan_size(num_frames))
        return grad_h, grad_alpha, *[None] * 7


def check_device(h: Tensor) -> None:
    """Raises ValueError where the kernels cannot run."""
    if not h.is_cuda and not INTERPRETED:
        raise ValueError(
            f"impl 'triton' needs tensors on a GPU, not on {h.device.type}; TRITON_INTERPRET=1 is for tests"
        )


def _precision(h: Tensor) -> tuple[torch.dtype, tl.dtype]:
    return (torch.float64, tl.float64) if h.dtype == torch.float64 else (torch.float32, tl.float32)


def _scan_size(num_frames: int) -> int:
    return min(triton.next_power_of_2(num_frames), SCAN)


def _piece(width: int) -> int:
    return min(triton.next_power_of_2(width), WIDTH)
