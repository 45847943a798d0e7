import pytest
import torch
from espnet.nets.pytorch_backend.transformer import subsampling as stock

from espnet2_kd.layers.subsampling import Conv2dSubsampling

PEERS = {
    "conv2d2": stock.Conv2dSubsampling2,
    "conv2d": stock.Conv2dSubsampling,
    "conv2d6": stock.Conv2dSubsampling6,
    "conv2d8": stock.Conv2dSubsampling8,
}


@pytest.mark.parametrize("kind", PEERS)
@pytest.mark.parametrize("num", [15, 16, 37, 64])
def test_equals_espnet_with_the_same_weights(kind, num):
    torch.manual_seed(0)
    module = Conv2dSubsampling(kind, 23, 8)
    peer = PEERS[kind](23, 8, 0.0, torch.nn.Identity())
    peer.load_state_dict(dict(zip(peer.state_dict(), module.state_dict().values())))
    x = torch.randn(2, num, 23)
    expected, mask = peer(x, torch.ones(2, 1, num, dtype=torch.bool))
    assert (module(x) - expected).abs().max() < 1e-6
    assert module.num_frames(torch.tensor([num])).tolist() == [mask.shape[-1]]


@pytest.mark.parametrize("kind", PEERS)
def test_valid_frames_depend_on_no_padding(kind):
    # ESPnet2 counts a frame whose field only begins within the utterance, so its count depends on the batch; ours does not.
    torch.manual_seed(0)
    module = Conv2dSubsampling(kind, 23, 8)
    x = torch.randn(1, 80, 23)
    for length in range(module.receptive_field, 60):
        alone = module(x[:, :length])
        num = int(module.num_frames(torch.tensor([length])))
        assert alone.shape[1] == num
        torch.testing.assert_close(module(x)[:, :num], alone)


@pytest.mark.parametrize("kind", PEERS)
def test_receptive_field_and_stride_are_what_the_gradient_says(kind):
    torch.manual_seed(0)
    module = Conv2dSubsampling(kind, 23, 8)
    x = torch.randn(1, 60, 23, requires_grad=True)
    out = module(x)
    for t in (0, 1, out.shape[1] - 1):
        (grad,) = torch.autograd.grad(out[0, t].sum(), x, retain_graph=True)
        used = grad[0].abs().sum(1).nonzero()[:, 0]
        first = t * module.stride
        assert (int(used.min()), int(used.max())) == (first, first + module.receptive_field - 1)


def test_channels_narrow_the_convolutions_alone():
    module = Conv2dSubsampling("conv2d", 23, 8, channels=3)
    assert [tuple(p.shape) for p in module.parameters() if p.dim() > 1] == [(3, 1, 3, 3), (3, 3, 3, 3), (8, 3 * 5)]
    assert module(torch.randn(2, 15, 23)).shape == (2, 3, 8)


@pytest.mark.parametrize("kind", PEERS)
def test_the_shortest_input_is_espnets(kind):
    module = Conv2dSubsampling(kind, 23, 8)
    short, limit = stock.check_short_utt(PEERS[kind](23, 8, 0.0, torch.nn.Identity()), module.receptive_field - 1)
    assert short and limit == module.receptive_field
    lens = torch.arange(module.receptive_field + 1)
    assert module.num_frames(lens).tolist() == [0] * module.receptive_field + [1]


def test_wrong_settings():
    with pytest.raises(ValueError, match="unknown input_layer 'linear'; known: conv2d2, conv2d, conv2d6, conv2d8"):
        Conv2dSubsampling("linear", 23, 8)
    with pytest.raises(ValueError, match="conv2d8 needs at least 15 features, got 14"):
        Conv2dSubsampling("conv2d8", 14, 8)
