"""Transducer lattices `(B, T, U, V)`, the largest tensors of a training, without more copies than needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

JOINT = "joint_network"  # where an ESPnet2 transducer makes its lattice
MAX_SLICE = 1 << 22  # numbers; 16 MiB in float32, so that a slice stays in the cache of a large CPU


@dataclass(frozen=True)
class LatticeRows:
    """The logits of a frozen model's lattice, computed for a few frames at a time when they are read.

    Attributes:
        joint: joint network, called with `(B, n, 1, D_enc)` and `(B, 1, U, D_dec)`.
        encoded, predicted: its inputs, `(B, T, 1, D_enc)` and `(B, 1, U, D_dec)`.
        num_classes: V.
        autocast: dtype under which the model runs, None without.
    """

    joint: nn.Module
    encoded: Tensor
    predicted: Tensor
    num_classes: int
    autocast: torch.dtype | None

    @classmethod
    def of(cls, joint: nn.Module, encoded: Tensor, predicted: Tensor) -> LatticeRows:
        """The lattice of a joint network that is about to run with these inputs, in the caller's autocast mode."""
        device = encoded.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.no_grad():
            # Not called as a module: its hooks may be what calls this.
            num_classes = joint.forward(encoded[:, :1], predicted[:, :, :1]).shape[-1]
        return cls(joint, encoded.detach(), predicted.detach(), num_classes, dtype)

    @property
    def shape(self) -> torch.Size:
        """`(B, T, U, V)`."""
        return torch.Size((*self.encoded.shape[:2], self.predicted.shape[2], self.num_classes))

    def dim(self) -> int:
        """4, as of the tensor that this stands for."""
        return 4

    def first(self, num_frames: int) -> LatticeRows:
        """The lattice of the first frames alone."""
        return replace(self, encoded=self.encoded[:, :num_frames])

    def detach(self) -> LatticeRows:
        """Itself: it has no gradient."""
        return self

    @torch.no_grad()
    def __getitem__(self, frames: slice) -> Tensor:
        """Logits `(B, n, U, V)` of a slice of frames."""
        with torch.autocast(self.encoded.device.type, self.autocast, enabled=self.autocast is not None):
            return self.joint(self.encoded[:, frames], self.predicted)


def lattice_hook(recorded: dict[str, Any]):
    """Pre-hook of a joint network that keeps its lattice, to be computed when it is read."""

    def keep(joint: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        recorded[JOINT] = LatticeRows.of(joint, *inputs)

    return keep


def slice_frames(shape: torch.Size) -> int:
    """How many frames of a lattice `(B, T, U, V)` make up one slice."""
    batch, _, num_labels, num_classes = shape
    return max(1, MAX_SLICE // max(1, batch * num_labels * num_classes))


def by_slices(x: Tensor, function: Callable[[Tensor, slice], Tensor], num_frames: int) -> Tensor:
    """Apply `function(x[:, frames], frames)` to slices of frames and join the results, `(B, T, ...)` -> `(B, T, ...)`.

    Nothing that `function` computes is kept for the gradient: the backward pass computes it again, slice by slice, and needs one
    tensor like `x`.
    """
    return _BySlices.apply(x, function, num_frames)


class _BySlices(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, function: Callable[[Tensor, slice], Tensor], num_frames: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        # A batch without frames has one slice, an empty one: it gives the result its shape.
        ctx.slices = [slice(start, start + num_frames) for start in range(0, max(1, x.shape[1]), num_frames)]
        return torch.cat([function(x[:, frames], frames) for frames in ctx.slices], dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        result = torch.empty_like(x)
        for frames in ctx.slices:
            part = x[:, frames].detach().requires_grad_()
            with torch.enable_grad():
                value = ctx.function(part, frames)
            (result[:, frames],) = torch.autograd.grad(value, part, grad[:, frames])
        return result, None, None
