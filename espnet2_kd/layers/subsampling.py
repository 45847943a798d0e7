"""Convolutional subsampling of feature frames."""

import torch
from torch import nn

KERNELS_AND_STRIDES: dict[str, tuple[tuple[int, int], ...]] = {
    "conv2d2": ((3, 2), (3, 1)),
    "conv2d": ((3, 2), (3, 2)),
    "conv2d6": ((3, 2), (5, 3)),
    "conv2d8": ((3, 2), (3, 2), (3, 2)),
}


class Conv2dSubsampling(nn.Module):
    """Strided 2-D convolutions and a projection, (B, T, F) -> (B, T', D), without padding.

    Without padding an output frame depends on ``receptive_field`` input frames and on nothing else, whatever the batch
    and however the input arrives. Same kinds and sizes as ESPnet2's conv2d, conv2d2, conv2d6 and conv2d8.

    channels: of the convolutions, ``size`` by default as in ESPnet2. In small models they cost more than all blocks.

    Raises ValueError for an unknown kind or too few features.
    """

    def __init__(self, kind: str, num_features: int, size: int, channels: int | None = None) -> None:
        super().__init__()
        if kind not in KERNELS_AND_STRIDES:
            raise ValueError(f"unknown input_layer {kind!r}; known: {', '.join(KERNELS_AND_STRIDES)}")
        self.layers = KERNELS_AND_STRIDES[kind]
        self.stride, self.receptive_field = 1, 1
        for kernel, stride in self.layers:
            self.receptive_field += (kernel - 1) * self.stride
            self.stride *= stride
        if num_features < self.receptive_field:
            raise ValueError(f"{kind} needs at least {self.receptive_field} features, got {num_features}")
        self.num_features = num_features
        channels = channels or size
        convs: list[nn.Module] = []
        for n, (kernel, stride) in enumerate(self.layers):
            convs += [nn.Conv2d(channels if n else 1, channels, kernel, stride), nn.ReLU()]
        self.conv = nn.Sequential(*convs)
        self.out = nn.Linear(channels * self._shrink(num_features), size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, T, F) with T >= receptive_field -> (B, T', D)."""
        return self.out(self.conv(x[:, None]).transpose(1, 2).flatten(2))

    def num_frames(self, lens: torch.Tensor) -> torch.Tensor:
        """Output frames that lie wholly in the first ``lens`` input frames; 0 where these are too few."""
        return self._shrink(lens).clamp(min=0)

    def _shrink(self, num: int | torch.Tensor) -> int | torch.Tensor:
        for kernel, stride in self.layers:
            num = (num - kernel) // stride + 1
        return num
