import warnings

import torch
from torch import nn

from espnet2_kd.layers.folded_linear import FoldedLinear, Int8Linear, fold


def layers():
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(48), nn.Linear(48, 32)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias)
    return norm, linear, torch.randn(6, 48)


@torch.no_grad()
def test_norm_and_scale_are_folded_into_the_weights():
    norm, linear, x = layers()
    normalized = nn.functional.layer_norm(x, (48,), eps=norm.eps)
    scale = torch.rand(32)
    assert torch.allclose(FoldedLinear(*fold(linear, norm))(normalized), linear(norm(x)), atol=1e-5)
    assert torch.allclose(FoldedLinear(*fold(linear, norm, scale))(normalized), scale * linear(norm(x)), atol=1e-5)
    assert torch.allclose(FoldedLinear(*fold(nn.Linear(48, 32, bias=False), scale=0.0))(x), torch.zeros(6, 32))


@torch.no_grad()
def test_eight_bits_err_by_the_width_of_a_step():
    _, linear, x = layers()
    # An output of large weights must not coarsen the others.
    linear.weight[0] *= 100.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difference = Int8Linear(*fold(linear))(x) - linear(x)
    # Steps of x in 7 bits and of each weight in 8, if all errors added up.
    steps = (x.amax() - x.amin()) / 127 / 2 * linear.weight.abs().sum(1) + linear.weight.abs().amax(
        1
    ) / 254 * x.abs().sum(1).max()
    assert (difference.abs() <= steps * 1.2 + 1e-5).all() and difference.abs().max() > 0
