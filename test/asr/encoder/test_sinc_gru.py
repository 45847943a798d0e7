"""SincNet and GRUs against the layers of the paper, one utterance at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from espnet2_kd.asr.encoder.sinc_gru import RawSamples, SincGRUEncoder

LENS = [16000, 7999, 5121, 1]


def encoder():
    torch.manual_seed(0)
    return SincGRUEncoder(1, size=6).eval()


def by_pytorch(model, samples):
    """(N,) -> (T, D) as the paper has it: ceil in every pooling."""
    x = F.conv1d(samples[None, None], model.sinc.sinc_filters, stride=80, padding=200)
    x = F.leaky_relu(F.max_pool1d(x.abs(), 2, ceil_mode=True), 0.2)
    for layer in model.convolutions:
        x = F.leaky_relu(F.conv1d(x, layer.weight, layer.bias, padding=2), 0.2)
    for gru in model.layers:
        x = gru(x.transpose(1, 2))[0].transpose(1, 2)
        x = F.avg_pool1d(x, 2, ceil_mode=True)
    return x[0].T


@torch.no_grad()
def test_the_papers_layers():
    model = encoder()
    speech = torch.randn(4, 16000, generator=torch.Generator().manual_seed(1))
    frames, lens = RawSamples("16k")(speech, torch.tensor(LENS))
    found, found_lens, _ = model(frames, lens)
    assert model.frame_ms == 160.0
    for b, n in enumerate(LENS):
        expected = by_pytorch(model, speech[b, :n])
        assert found_lens[b] == len(expected) == -(-n // 2560)
        torch.testing.assert_close(found[b, : len(expected)], expected, rtol=1e-4, atol=1e-5)


def test_all_of_it_learns():
    model = encoder()
    frames = torch.randn(2, 8000, 1, generator=torch.Generator().manual_seed(1))
    model(frames, torch.tensor([8000, 3000]))[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert any(isinstance(part, nn.GRU) for part in model.modules())


def test_features_are_refused():
    with pytest.raises(ValueError, match="not 80 features: `frontend: raw`"):
        SincGRUEncoder(80)
