"""The one value that flows between taps, heads and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from espnet2_kd.kd.lattice import LatticeRows


@dataclass(frozen=True)
class Seq:
    """A batch of padded sequences with their true lengths.

    Attributes:
        x: `(B, T, D)` for a sequence, `(B, D)` for one vector per utterance, `(B, T, U, V)` for a transducer lattice,
            which a teacher gives as `LatticeRows`.
        lens: `(B,)` number of valid frames T, or None for `(B, D)`.
        label_lens: `(B,)` number of valid label positions U (labels + 1), for lattices only.
        labels: `(B, U - 1)` their labels, padded with anything.
        spans: `(B, N, 2)`, of text, from which of the student's frames to which each position was spoken.
        slots: of logits `(B, V)`, which classes make up each answer; None: all of them make up one.
    """

    x: Tensor | LatticeRows
    lens: Tensor | None = None
    label_lens: Tensor | None = None
    labels: Tensor | None = None
    spans: Tensor | None = None
    slots: Sequence[Sequence[int]] | None = None

    @property
    def mask(self) -> Tensor:
        """`(B, T)` True on valid frames (`(B, T, U)` for a lattice, `(B,)` for one vector per utterance)."""
        if self.lens is None:
            return torch.ones(self.x.shape[0], dtype=torch.bool, device=self.x.device)
        frames = length_mask(self.lens, self.x.shape[1])
        if self.label_lens is None:
            return frames
        return frames.unsqueeze(2) & length_mask(self.label_lens, self.x.shape[2]).unsqueeze(1)

    def with_x(self, x: Tensor) -> Seq:
        """The same lengths around another tensor."""
        return replace(self, x=x)


def length_mask(lens: Tensor, size: int) -> Tensor:
    """`(B, size)` bool, True where the position lies before the length in `lens` `(B,)`."""
    return torch.arange(size, device=lens.device).unsqueeze(0) < lens.unsqueeze(1)
