"""Linear layers prepared for inference: what surrounds them is folded into their weights, in float32 or in int8."""

import torch
from torch import nn


def fold(
    linear: nn.Linear, norm: nn.LayerNorm | None = None, scale: float | torch.Tensor = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (O, I) and bias (O,) of ``scale * linear(norm(x))``, where ``norm`` only normalises and has no affine part.

    scale: a number, or one per output (O,).
    """
    weight, bias = linear.weight.detach(), linear.bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    if norm is not None:
        bias = bias + weight @ norm.bias.detach()
        weight = weight * norm.weight.detach()
    scale = torch.as_tensor(scale, dtype=weight.dtype, device=weight.device)
    return weight * scale[..., None], bias * scale


class Linear(nn.Module):
    """What both kinds are: x (N, I) -> (N, O), made of a weight (O, I) and a bias (O,)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()


class FoldedLinear(Linear):
    """x (N, I) -> (N, O), for few rows: the weight is kept transposed, which is read fastest then."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__(weight, bias)
        self.register_buffer("weight", weight.t().contiguous(), persistent=False)
        self.register_buffer("bias", bias.clone(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Int8Linear(Linear):
    """x (N, I) -> (N, O) with weights in 8 bits, one scale per output; x is quantised on the fly, one scale for all rows.

    On the CPU only. Torch's own operators, without torch.ao around them, which is deprecated.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__(weight, bias)
        scales = weight.abs().amax(dim=1).clamp(min=1e-8).double() / 127.0
        zeros = torch.zeros(len(weight), dtype=torch.long)
        quantized = torch.quantize_per_channel(weight.float(), scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantized, bias.float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Seven bits for x, as torch.ao does: with eight, sums of products overflow on CPUs without VNNI.
        return torch.ops.quantized.linear_dynamic(x, self.packed, True)
