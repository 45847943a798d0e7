"""Convolutional subsampling of the few frames of a chunk, as matrix products."""

import torch
import torch.nn.functional as F
from torch import nn

from espnet2_kd.layers.folded_linear import Linear, fold
from espnet2_kd.layers.subsampling import Conv2dSubsampling

# Rows of a product at most, since each is copied once for every place of the kernel.
MAX_ROWS = 2048


class SubsamplingStep(nn.Module):
    """``scale * module(x)``, (B, T, F) -> (B T', D).

    products: gather the patches by hand. On a CPU a convolution of few frames is slower than the product that it is, and
        it has no version in 8 bits.
    """

    def __init__(self, module: Conv2dSubsampling, scale: float, linear: type[Linear], products: bool) -> None:
        super().__init__()
        self.kernels = module.layers
        self.conv = None if products else module.conv
        if not products:
            self.out = linear(*fold(module.out, scale=scale))
            return
        convs = [layer for layer in module.conv if isinstance(layer, nn.Conv2d)]
        # In the order of the patches: time, frequency, channel.
        self.convs = nn.ModuleList(
            linear(conv.weight.detach().permute(0, 2, 3, 1).flatten(1), conv.bias.detach()) for conv in convs
        )
        weight, bias = fold(module.out, scale=scale)
        by_channel = weight.unflatten(1, (convs[-1].out_channels, -1))
        self.out = linear(by_channel.transpose(1, 2).flatten(1), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.conv is not None:
            return self.out(self.conv(x[:, None]).transpose(1, 2).flatten(2).flatten(0, 1))
        x = x[..., None]
        for (kernel, stride), conv in zip(self.kernels, self.convs):
            patches = x.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)
            num, rows = patches.shape[:3], max(MAX_ROWS // (patches.shape[1] * patches.shape[2]), 1)
            outs = [F.relu(conv(part.reshape(-1, kernel * kernel * x.shape[3]))) for part in patches.split(rows)]
            x = (outs[0] if len(outs) == 1 else torch.cat(outs)).reshape(*num, -1)
        return self.out(x.flatten(2).flatten(0, 1))
