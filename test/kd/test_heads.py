"""The auxiliary branch: masks written out, leaks probed by gradients."""

import pytest
import torch

from espnet2_kd.kd.heads import HEADS
from espnet2_kd.kd.heads.nonstreaming import NonStreaming, future_mask
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq

HOLE_2 = """
1 0 0 1 1
1 1 0 0 1
1 1 1 0 0
1 1 1 1 0
1 1 1 1 1
"""
LOOKAHEAD_2 = """
1 1 0 0 0
1 1 1 0 0
1 1 1 1 0
1 1 1 1 1
1 1 1 1 1
"""


def written(text):
    return torch.tensor([[int(c) for c in line.split()] for line in text.strip().splitlines()], dtype=torch.bool)


def test_masks_are_the_written_out_matrices():
    assert torch.equal(future_mask(5, "hole", 2), written(HOLE_2))
    assert torch.equal(future_mask(5, "lookahead", 2), written(LOOKAHEAD_2))
    assert future_mask(5, "none", 2).all()


@pytest.mark.parametrize("mask", ["none", "hole", "lookahead"])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 9])
def test_every_row_keeps_a_key(mask, num_frames):
    allowed = future_mask(num_frames, mask, 4)
    assert allowed.diagonal().all()


def branch(mask, shift=2, lstm=True):
    torch.manual_seed(0)
    return NonStreaming(6, 8, num_heads=2, mask=mask, shift=shift, lstm=lstm).eval()


def reach(head, output, t, num_frames=9):
    """Frames of the student that `output[t]` depends on."""
    x = torch.randn(1, num_frames, 6, requires_grad=True)
    head(Seq(x, torch.tensor([num_frames])))[output].x[0, t].square().sum().backward()
    return {k for k in range(num_frames) if x.grad[0, k].abs().sum() > 0}


def test_gradient_reach_of_each_mask():
    everything = set(range(9))
    assert reach(branch("none"), "x", 3) == everything
    assert reach(branch("hole"), "x", 3) == everything - {4, 5}
    assert reach(branch("lookahead"), "x", 3) == {0, 1, 2, 3, 4}
    # The LSTM passes on what earlier rows saw: with the hole mask the target frame t + shift still gets through.
    assert 5 in reach(branch("hole"), "future", 3)
    assert reach(branch("lookahead"), "future", 3) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("mask", ["none", "hole", "lookahead"])
def test_padding_and_batch_cannot_matter(mask):
    head = branch(mask)
    x, lens = torch.randn(3, 7, 6), torch.tensor([7, 3, 1])
    together = head(Seq(x, lens))
    for b, n in enumerate(lens.tolist()):
        alone = head(Seq(x[b : b + 1, :n], lens[b : b + 1]))
        for key, value in alone.items():
            torch.testing.assert_close(value.x[0], together[key].x[b, :n], rtol=1e-5, atol=1e-6)


def test_attention_equals_a_reference():
    head = branch("hole", lstm=False)
    x = torch.randn(1, 6, 6)
    out = head(Seq(x, torch.tensor([6])))
    q, k, v = (out[key].x[0].double().view(6, 2, 4) for key in "qkv")
    context = torch.zeros(6, 2, 4, dtype=torch.float64)
    for a in range(2):
        for t in range(6):
            keys = [i for i in range(6) if i <= t or i > t + 2]
            weights = torch.softmax(torch.stack([q[t, a] @ k[i, a] / 2.0 for i in keys]), 0)
            context[t, a] = sum(w * v[i, a] for w, i in zip(weights, keys))
    captured = {}
    handle = head.linear_out.register_forward_pre_hook(lambda module, args: captured.__setitem__("context", args[0]))
    head(Seq(x, torch.tensor([6])))
    handle.remove()
    torch.testing.assert_close(captured["context"][0].double(), context.flatten(1), rtol=1e-5, atol=1e-6)


def test_no_lstm_means_no_unused_parameters():
    head = branch("none", lstm=False)
    assert not any("lstm" in name for name, _ in head.named_parameters())
    assert "future" not in head(Seq(torch.randn(1, 3, 6), torch.tensor([3])))


def test_projection_defaults_to_the_teachers_width():
    head = HEADS.build("projection", "test", in_size=6, teacher_size=10)
    assert head(Seq(torch.randn(2, 3, 6), torch.tensor([3, 2])))["x"].x.shape == (2, 3, 10)


@pytest.mark.parametrize("keywords", [{"mask": "holes"}, {"num_heads": 3}, {"shift": 0}, {"sise": 8}, {"up": 1}])
def test_a_wrong_keyword_is_refused(keywords):
    with pytest.raises(ConfigError):
        HEADS.build({"nonstreaming": keywords}, "test", in_size=6, teacher_size=8)
