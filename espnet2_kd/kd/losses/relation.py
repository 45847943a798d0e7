"""Self-attention relation distillation of MiniLMv2 (Wang et al., ACL Findings 2021)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.reduction import check_reduction
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq

# Entries of the relation matrices that are computed at once: what stays in the cache of a core, or keeps a GPU busy.
SLICE = {"cpu": 1 << 18, "cuda": 1 << 24}


def relation_kl(student: Seq, teacher: Seq, num_heads: int) -> Tensor:
    """KL between the relation matrices `softmax(X X^T / sqrt(d))` of teacher and student, averaged over heads.

    The matrices `(B, heads, T, T)` are never stored: a few rows at a time are computed, and with them already their share of the
    gradient. Padding is not computed at all. There is no gradient to the teacher, and no second derivative.

    Args:
        student, teacher: `(B, T, D_s)`, `(B, T, D_t)`; both widths are split into `num_heads` heads of width d.

    Returns:
        `(B,)`: KL(teacher || student), summed over the valid rows of each utterance.
    """
    return _RelationKL.apply(student.x, teacher.x, student.lens, num_heads)


class _RelationKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, lens: Tensor, num_heads: int) -> Tensor:
        wide = torch.promote_types(student.dtype, torch.float32)
        grad = torch.zeros_like(student, dtype=wide) if ctx.needs_input_grad[0] else None
        values = torch.zeros(len(student), dtype=wide, device=student.device)
        with torch.autocast(student.device.type, enabled=False):
            for b, num in enumerate(lens.tolist()):
                if num:
                    s, t = (_heads(x[b, :num].to(wide), num_heads) for x in (student, teacher))
                    grad_s = None if grad is None else torch.zeros_like(s)
                    values[b] = _utterance(s, t, grad_s) / num_heads
                    if grad is not None:
                        scale = s.shape[2] ** -0.25 / num_heads
                        grad[b, :num] = (grad_s * scale).transpose(0, 1).flatten(1)
        ctx.dtype = student.dtype
        if grad is not None:
            ctx.save_for_backward(grad)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_values: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        return (grad * grad_values[:, None, None]).to(ctx.dtype), None, None, None


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """Frames `(T, D)` -> `(heads, T, d)`, scaled so that their products are the logits."""
    x = x.unflatten(1, (num_heads, -1)).transpose(0, 1)
    return x.contiguous() * x.shape[2] ** -0.25


def _utterance(s: Tensor, t: Tensor, grad: Tensor | None) -> Tensor:
    """The sum over heads and rows, of `(heads, T, d)` each; adds its gradient with respect to `s` to `grad`.

    With logits A = S S^T and G = dKL/dA = P_s - P_t, dKL/dS = G S + G^T S.
    """
    num_heads, num_frames, _ = s.shape
    num_rows = max(1, SLICE.get(s.device.type, SLICE["cuda"]) // (num_heads * num_frames))
    value = s.new_zeros(())
    for start in range(0, num_frames, num_rows):
        rows = slice(start, start + num_rows)
        log_s = s[:, rows] @ s.transpose(1, 2)
        log_t = t[:, rows] @ t.transpose(1, 2)
        for x in (log_s, log_t):
            x -= x.logsumexp(-1, keepdim=True)
        probs_t = log_t.exp()
        value += (probs_t * log_t.sub_(log_s)).sum()
        if grad is not None:
            difference = log_s.exp_().sub_(probs_t)
            grad[:, rows].baddbmm_(difference, s)
            grad.baddbmm_(difference.transpose(1, 2), s[:, rows])
    return value


@LOSSES.add("relation")
class Relation:
    """L_KLD = L^Q + L^K + L^V, summed over the valid frames.

    Args:
        num_heads: relation heads A; must divide both widths (8 for a teacher of 8 heads).
    """

    reads = ("q", "k", "v")

    def __init__(self, num_heads: int, reduction: str = "sum") -> None:
        if num_heads < 1:
            raise ConfigError(f"relation: num_heads {num_heads} must be at least 1")
        self.num_heads = num_heads
        self.reduction = check_reduction(reduction)

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        total = 0.0
        for name in self.reads:
            s, t = student[name], teacher[name]
            for side, seq in (("student", s), ("teacher", t)):
                if seq.x.shape[-1] % self.num_heads:
                    raise ConfigError(
                        f"relation: {side} width {seq.x.shape[-1]} does not split into {self.num_heads} heads"
                    )
            value = relation_kl(s, t, self.num_heads)
            total = total + (value if self.reduction == "sum" else value / s.lens.clamp(min=1))
        return total
