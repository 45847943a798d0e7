"""Conformer convolution module."""

import torch
import torch.nn.functional as F
from torch import nn

from espnet2_kd.layers.feed_forward import make_activation


class ConvolutionModule(nn.Module):
    """Gated pointwise, depthwise and pointwise convolution (Conformer, arXiv 2005.08100, 2.2), causal or centred.

    norm: ``layer_norm`` (each frame by itself, so that neither the batch nor what follows changes a frame) or
        ``batch_norm`` (over the valid frames of the batch in training, fixed in inference).

    Raises ValueError for an even centred kernel or an unknown norm.
    """

    def __init__(
        self, size: int, kernel_size: int, causal: bool, norm: str = "layer_norm", activation: str = "swish"
    ) -> None:
        super().__init__()
        if kernel_size < 1 or (not causal and kernel_size % 2 == 0):
            raise ValueError(f"a centred convolution needs an odd kernel, got {kernel_size}")
        if norm not in ("layer_norm", "batch_norm"):
            raise ValueError(f"unknown conv_norm {norm!r}; known: layer_norm, batch_norm")
        self.causal = causal
        self.history = kernel_size - 1
        self.pointwise_conv1 = nn.Linear(size, 2 * size)
        self.depthwise_conv = nn.Conv1d(size, size, kernel_size, groups=size)
        self.norm = nn.LayerNorm(size) if norm == "layer_norm" else nn.BatchNorm1d(size)
        self.activation = make_activation(activation)
        self.pointwise_conv2 = nn.Linear(size, size)

    def forward(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """x (B, T, D), valid (B, T) bool -> (B, T, D)."""
        before = self.history if self.causal else self.history // 2
        # Masked after the pointwise layer, whose bias would turn padding into signal again.
        gated = self._gate(x).masked_fill(~valid[:, None], 0.0)
        return self._after(self.depthwise_conv(F.pad(gated, (before, self.history - before))), valid)

    def forward_chunk(self, x: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Next frames x (B, T, D) of a stream, past (B, D, kernel_size - 1), zeros at the start -> output, new past.

        For inference with a causal kernel. Needs no mask: what follows the end of a stream reaches none of its frames.
        """
        gated = torch.cat((past, self._gate(x)), dim=2)
        return self._after(self.depthwise_conv(gated)), gated[:, :, gated.shape[2] - self.history :]

    def _gate(self, x: torch.Tensor) -> torch.Tensor:
        return F.glu(self.pointwise_conv1(x), dim=-1).transpose(1, 2)

    def _after(self, x: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        return self.pointwise_conv2(self.activation(self._normalize(x.transpose(1, 2), valid)))

    def _normalize(self, x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            return self.norm(x)
        if self.training and valid is not None:
            y = self.norm(x[valid])
            return torch.zeros_like(x, dtype=y.dtype).index_put((valid,), y)
        return self.norm(x.transpose(1, 2)).transpose(1, 2)
