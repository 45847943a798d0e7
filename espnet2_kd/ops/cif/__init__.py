"""Continuous integrate-and-fire: from frames with weights to tokens."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.ops.cif.bag import Integrate
from espnet2_kd.ops.cif.bag import wide as _wide
from espnet2_kd.ops.cif.naive import cif_fire_naive

IMPLS = ("auto", "bag", "numba", "triton", "naive")


def cif_fire(
    h: Tensor,
    alpha: Tensor,
    lens: Tensor,
    *,
    num_tokens: Tensor | None = None,
    threshold: float = 1.0,
    tail: float | None = 0.5,
    max_tokens: int | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Integrate frames until their weights make up `threshold`, fire a token, go on with what is left.

    Token i is `sum_t w_{i,t} h_t` with `w_{i,t} = max(0, min(A_t, i threshold) - max(A_{t-1}, (i-1) threshold))` and A_t the sum
    of alpha up to frame t (Dong and Xu, ICASSP 2020, for any number of fires per frame). The sums are in float64, the tokens
    in float32 or better, whatever the precision of `h` and of autocast. What lies beyond `lens` is never read.

    Args:
        h: frames `(B, T, C)`.
        alpha: weights `(B, T)`, not negative.
        lens: frames of each utterance `(B,)`.
        num_tokens: in training, tokens of each utterance `(B,)`: so many rows come out, the last with all the weight that the
            others leave. Scale alpha to the sum `num_tokens * threshold` beforehand.
        threshold: weight of a token.
        tail: without `num_tokens`, a rest of more weight than this fires too, scaled up to `threshold`; None: never.
        max_tokens: U, no less than any of `num_tokens`, where the caller knows; None: looked up, for which a GPU is waited for.
        impl: `auto`; `bag` (fast, any device); `numba` (fused, for the CPU); `triton` (fused, for a GPU); `naive` (the definition).

    Returns:
        fired `(B, U, C)` in the dtype of `h`, 0 beyond their numbers; fired_lens `(B,)`. A weight that is NaN or infinite makes
        its own utterance NaN, which without `num_tokens` has no token or one.

    Raises:
        ValueError: shapes that do not belong together, an unknown impl, one that the device does not run, `max_tokens` without `num_tokens`;
            on the CPU also negative weights and a `max_tokens` that is too small.
        ImportError: `triton` or `numba` is not installed.
    """
    impl = _check(h, alpha, lens, threshold, impl)
    if num_tokens is not None:
        num_tokens = num_tokens.to(lens)
    size = _size(num_tokens, max_tokens)
    if impl == "naive":
        wide = _wide(h)
        fired, fired_lens = cif_fire_naive(wide, alpha, lens, num_tokens=num_tokens, threshold=threshold, tail=tail)
        if size is not None:
            fired = F.pad(fired, (0, 0, 0, size - fired.shape[1]))
        return fired.to(h.dtype), fired_lens
    if num_tokens is not None:
        if impl == "bag":  # the others look at the lengths themselves
            alpha = _valid(alpha, lens)
        return _integrate(impl, h, alpha, lens, None, None, num_tokens, size, threshold, h.dtype), num_tokens
    alpha = _valid(alpha, lens)
    mass = _mass(alpha, alpha.new_zeros(len(alpha)))
    num_fires, residue = _fires(mass, threshold)
    has_tail = torch.zeros_like(num_fires) if tail is None else (residue > tail).to(num_fires)
    fired_lens = num_fires + has_tail
    size = _largest(fired_lens)
    fired = _integrate(impl, h, alpha, lens, None, num_fires, fired_lens, size, threshold, _wide(h).dtype)
    if tail is not None:
        is_tail = torch.arange(fired.shape[1], device=h.device) == torch.where(has_tail > 0, num_fires, -1)[:, None]
        scale = (threshold / torch.where(has_tail > 0, residue, threshold)).to(fired.dtype)
        fired = torch.where(is_tail[:, :, None], fired * scale[:, None, None], fired)
    return fired.to(h.dtype), fired_lens


@dataclass(frozen=True)
class CIFState:
    """What a stream carries from one piece to the next.

    mass: weight of the token that is being filled (B,) float64, below the threshold.
    token: what it holds so far (B, C).
    """

    mass: Tensor
    token: Tensor

    @classmethod
    def start(
        cls, batch_size: int, size: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> CIFState:
        """Before the first frame of streams with `size` features; half precision is summed in float32."""
        dtype = torch.promote_types(dtype, torch.float32)
        mass = torch.zeros(batch_size, dtype=torch.float64, device=device)
        return cls(mass, torch.zeros(batch_size, size, dtype=dtype, device=device))


@torch.no_grad()
def cif_fire_chunk(
    h: Tensor,
    alpha: Tensor,
    lens: Tensor,
    state: CIFState,
    *,
    final: bool = False,
    threshold: float = 1.0,
    tail: float | None = 0.5,
    impl: str = "auto",
) -> tuple[Tensor, Tensor, CIFState]:
    """The next frames of streams: tokens that fire, their numbers and the new state; all together as `cif_fire` of the whole.

    Args:
        h, alpha, lens, impl: as of `cif_fire`, T may be 0; `naive` is for wholes only.
        final: no frame follows, so the tail rule applies.
    """
    impl = _check(h, alpha, lens, threshold, impl)
    if impl == "naive":
        raise ValueError("impl 'naive' has no state: it takes whole utterances")
    alpha = _valid(alpha, lens)
    mass = _mass(alpha, state.mass)
    num_fires, residue = _fires(mass, threshold)
    size = _largest(num_fires) + 1 if len(h) else 0
    dtype = _wide(h).dtype
    rows = _integrate(impl, h, alpha, lens, state.mass, num_fires, num_fires + 1, size, threshold, dtype)
    rows[:, 0] += state.token
    here = torch.arange(rows.shape[1], device=h.device) == num_fires[:, None]
    token = rows[here]
    fired_lens = num_fires
    if final and tail is not None:
        has_tail = residue > tail
        fired_lens = num_fires + has_tail.to(num_fires)
        scale = (threshold / torch.where(has_tail, residue, threshold)).to(rows.dtype)
        rows = torch.where(here[:, :, None], rows * scale[:, None, None], rows)
    fired = rows[:, : int(fired_lens.max())] if len(h) else rows
    fired = fired.masked_fill(torch.arange(fired.shape[1], device=h.device)[:, None] >= fired_lens[:, None, None], 0.0)
    return fired.to(h.dtype), fired_lens, CIFState(residue, token)


@torch.no_grad()
def fire_frames(
    alpha: Tensor, lens: Tensor, fired_lens: Tensor, *, start: Tensor | None = None, threshold: float = 1.0
) -> Tensor:
    """The frame in which each token fires `(B, U)`, counted from the first of `alpha`; for a tail that is the last frame.

    Args:
        alpha, lens, threshold: as of `cif_fire`, not scaled.
        fired_lens: tokens of each utterance `(B,)`; what lies beyond has no meaning.
        start: mass that earlier pieces of a stream left over `(B,)`, `CIFState.mass`.
    """
    alpha = _valid(alpha, lens)
    start = alpha.new_zeros(len(alpha)) if start is None else start
    size = int(fired_lens.max()) if len(alpha) else 0
    if not alpha.shape[1]:
        return fired_lens.new_zeros(len(alpha), size)
    ends = torch.arange(1, size + 1, device=alpha.device, dtype=torch.float64) * threshold
    frames = torch.searchsorted(start[:, None] + alpha.cumsum(1), ends.expand(len(alpha), -1).contiguous())
    return torch.minimum(frames, (lens[:, None] - 1).clamp(min=0))


def _integrate(
    impl: str,
    h: Tensor,
    alpha: Tensor,
    lens: Tensor,
    start: Tensor | None,
    num_fires: Tensor | None,
    num_rows: Tensor,
    size: int,
    threshold: float,
    dtype: torch.dtype,
) -> Tensor:
    """Tokens (B, U, C) in `dtype`: `num_fires` that end, and the next one, if it is wanted, with all that is left.

    start: see `make_plan`; None: 0.
    num_fires: None: one less than `num_rows`.
    size: U, at least `num_rows.max()`.
    """
    if size == 0 or 0 in h.shape:
        # Sums of nothing, so that the result belongs to the graph of h and alpha all the same.
        return (h.new_zeros(len(h), size, h.shape[2]) + (h[:, :0].sum() + alpha[:, :0].sum()).to(h.dtype)).to(dtype)
    if impl == "triton":
        from espnet2_kd.ops.cif.fused import FusedIntegrate

        return FusedIntegrate.apply(h, _wide(alpha), lens, start, num_fires, num_rows, size, threshold, dtype)
    if impl == "numba":
        from espnet2_kd.ops.cif.loops import LoopIntegrate

        return LoopIntegrate.apply(h, alpha, lens, start, num_fires, num_rows, size, threshold).to(dtype)
    start = alpha.new_zeros(len(alpha)) if start is None else start
    num_fires = num_rows - 1 if num_fires is None else num_fires
    return Integrate.apply(h, alpha, lens, start, num_fires, num_rows, size, threshold).to(dtype)


def _largest(num_rows: Tensor) -> int:
    return max(int(num_rows.max()), 0) if len(num_rows) else 0


def _size(num_tokens: Tensor | None, max_tokens: int | None) -> int | None:
    if num_tokens is None:
        if max_tokens is not None:
            raise ValueError(
                "max_tokens belongs to num_tokens: without them, the weights say how many tokens there are"
            )
        return None
    if max_tokens is None:
        return _largest(num_tokens)
    if num_tokens.device.type == "cpu" and _largest(num_tokens) > max_tokens:
        raise ValueError(f"max_tokens {max_tokens} is less than the {_largest(num_tokens)} of num_tokens")
    return max_tokens


def _mass(alpha: Tensor, start: Tensor) -> Tensor:
    """All weight of each utterance, rounded as the plan's sums are: `sum` adds in another order."""
    return start + alpha.cumsum(1)[:, -1] if alpha.shape[1] else start


def _fires(mass: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """How often a weight fires, and what is left of it."""
    num_fires = torch.div(mass.detach(), threshold, rounding_mode="floor")
    # The quotient is rounded: the multiple that is compared with in the plan decides.
    num_fires = num_fires - (num_fires * threshold > mass).double() + ((num_fires + 1) * threshold <= mass).double()
    num_fires = num_fires.nan_to_num(nan=0.0, posinf=0.0)  # weights that are no numbers fire nothing
    return num_fires.long(), mass - num_fires * threshold


def _valid(alpha: Tensor, lens: Tensor) -> Tensor:
    beyond = torch.arange(alpha.shape[1], device=alpha.device) >= lens[:, None]
    valid = alpha.double().masked_fill(beyond, 0.0)
    if valid.device.type == "cpu" and valid.numel() and float(valid.detach().amin()) < 0:
        raise ValueError("alpha holds negative weights")
    return valid


def _check(h: Tensor, alpha: Tensor, lens: Tensor, threshold: float, impl: str) -> str:
    """The implementation to take."""
    if h.dim() != 3 or alpha.shape != h.shape[:2] or lens.shape != h.shape[:1]:
        raise ValueError(
            f"h (B, T, C), alpha (B, T) and lens (B,) are expected, not {list(h.shape)}, {list(alpha.shape)}, {list(lens.shape)}"
        )
    if impl not in IMPLS:
        raise ValueError(f"impl {impl!r}: one of {', '.join(IMPLS)}")
    if threshold <= 0:
        raise ValueError(f"threshold {threshold} must be positive")
    if impl == "auto":
        return _best(h, alpha)
    if impl == "numba":
        if not _has_numba():
            raise ImportError("impl 'numba' needs the package numba")
        if h.device.type != "cpu":
            raise ValueError(f"impl 'numba' needs tensors on the CPU, not on {h.device.type}")
    if impl == "triton":
        try:
            from espnet2_kd.ops.cif.fused import check_device
        except ImportError as error:
            raise ImportError(
                "impl 'triton' needs the package triton, which comes with CUDA builds of torch"
            ) from error
        check_device(h)
    return impl


def _best(h: Tensor, alpha: Tensor) -> str:
    """What `auto` takes.

    `triton` has not been timed on a GPU yet: tools/bench/cif.py --device cuda decides whether it takes its place there.
    `numba` takes a second when it is first called, so nobody who listens is to wait for it. It works in one thread: with two,
    `bag` is faster again where inputs are long.
    """
    if torch.compiler.is_compiling() or h.device.type != "cpu":
        return "bag"
    wants_gradients = torch.is_grad_enabled() and (h.requires_grad or alpha.requires_grad)
    return "numba" if wants_gradients and torch.get_num_threads() == 1 and _has_numba() else "bag"


@cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None
