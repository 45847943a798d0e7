"""Transducer lattices `(B, T, U, V)`, the largest tensors of a training, without more copies than needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

JOINT = "joint_network"  # where an ESPnet2 transducer makes its lattice
# Numbers of a slice: what stays in the cache of a core with all that is computed of it, or keeps a GPU busy.
SLICE = {"cpu": 1 << 19, "cuda": 1 << 24}


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


def slice_frames(lattice: Tensor) -> int:
    """How many frames of a lattice `(B, T, U, V)` make up one slice."""
    batch, _, num_labels, num_classes = lattice.shape
    return max(1, SLICE.get(lattice.device.type, SLICE["cuda"]) // max(1, batch * num_labels * num_classes))


def by_slices(x: Tensor, function: Callable[[Tensor, slice], Tensor], num_frames: int) -> Tensor:
    """Apply `function(x[:, frames], frames)` to slices of a lattice and join the results, `(B, T, U, V)` -> `(B, T, U)`.

    A result must depend on the V numbers at its own place only. Of what `function` computes nothing is kept but the gradient, which
    is found with the value, slice by slice, and takes one tensor like `x`; it can be used once.
    """
    return _BySlices.apply(x, function, num_frames)


class _BySlices(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, function: Callable[[Tensor, slice], Tensor], num_frames: int) -> Tensor:
        gradient = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        values = []
        # A batch without frames has one slice, an empty one: it gives the result its shape.
        for start in range(0, max(1, x.shape[1]), num_frames):
            frames = slice(start, start + num_frames)
            part = x[:, frames].detach().requires_grad_(gradient is not None)
            with torch.set_grad_enabled(gradient is not None):
                value = function(part, frames)
                if gradient is not None:
                    (gradient[:, frames],) = torch.autograd.grad(value.sum(), part)
            values.append(value.detach())
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return values[0] if len(values) == 1 else torch.cat(values, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        # In place, as there is no room for another; autograd itself refuses to use it again.
        return gradient.mul_(grad[..., None]), None, None
