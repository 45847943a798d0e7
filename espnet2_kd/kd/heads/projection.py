"""Heads without context."""

from __future__ import annotations

from torch import nn

from espnet2_kd.kd.heads import HEADS
from espnet2_kd.kd.seq import Seq


@HEADS.add("identity")
class Identity(nn.Module):
    """Compares the student's value as it is."""

    def forward(self, seq: Seq) -> dict[str, Seq]:
        """`(B, T, D)` -> `{x: (B, T, D)}`."""
        return {"x": seq}


@HEADS.add("projection")
class Projection(nn.Module):
    """Linear map to the teacher's width (or to `size`)."""

    def __init__(self, in_size: int, teacher_size: int, size: int | None = None, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_size, size or teacher_size, bias=bias)

    def forward(self, seq: Seq) -> dict[str, Seq]:
        """`(B, T, D_s)` -> `{x: (B, T, size)}`."""
        return {"x": seq.with_x(self.linear(seq.x))}


@HEADS.add("same_as")
class SameAs(nn.Module):
    """Stands for the head of an earlier term, which both then train: `head: {same_as: {term: NAME}}`."""

    def __init__(self, term: str) -> None:
        super().__init__()
        self.term = term
