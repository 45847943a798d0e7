"""The classifiers against PyTorch's own layers and utterances by themselves."""

import math

import pytest
import torch
from torch import nn

from espnet2_kd.kd.taps import record
from espnet2_kd.slu.classifiers import GRUClassifier, TransformerClassifier

LENS = [9, 4, 1]


def frames(size=6):
    x = torch.randn(3, 9, size, generator=torch.Generator().manual_seed(1))
    for b, n in enumerate(LENS):
        x[b, n:] = 1e4  # what a careless mean or softmax would show
    return x, torch.tensor(LENS)


def transformer():
    torch.manual_seed(0)
    return TransformerClassifier(
        5, 6, size=8, attention_heads=2, linear_units=12, num_blocks=2, dropout_rate=0.0
    ).eval()


def pytorchs(layer):
    """The same layer as PyTorch builds it."""
    other = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=False).eval()
    attn = layer.self_attn
    pairs = {
        "self_attn.in_proj_weight": torch.cat([attn.linear_q.weight, attn.linear_k.weight, attn.linear_v.weight]),
        "self_attn.in_proj_bias": torch.cat([attn.linear_q.bias, attn.linear_k.bias, attn.linear_v.bias]),
        "self_attn.out_proj.weight": attn.linear_out.weight,
        "self_attn.out_proj.bias": attn.linear_out.bias,
        "linear1.weight": layer.feed_forward[0].weight,
        "linear1.bias": layer.feed_forward[0].bias,
        "linear2.weight": layer.feed_forward[2].weight,
        "linear2.bias": layer.feed_forward[2].bias,
        "norm1.weight": layer.norm_attn.weight,
        "norm1.bias": layer.norm_attn.bias,
        "norm2.weight": layer.norm_ff.weight,
        "norm2.bias": layer.norm_ff.bias,
    }
    other.load_state_dict(pairs)
    return other


@torch.no_grad()
def test_transformer_equals_pytorchs():
    model, (x, lens) = transformer(), frames()
    found = model(x, lens)
    for b, n in enumerate(LENS):
        y = model.embed(x[b : b + 1, :n])
        for t in range(n):
            for d in range(8):
                angle = t / 10000 ** (d // 2 * 2 / 8)
                y[0, t, d] += math.cos(angle) if d % 2 else math.sin(angle)
        for layer in model.layers:
            y = pytorchs(layer)(y)
        expected = model.votes.linear(y)[0].max(0).values
        torch.testing.assert_close(found[b], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_attention_can_be_tapped():
    """Means over heads: weights are probabilities over valid frames, scores what they are the softmax of."""
    model, (x, lens) = transformer(), frames()
    path = "layers.1.self_attn.attention"
    with record(model, [f"{path}.mean_weights", f"{path}.mean_scores", "layers.0"]) as taps:
        model(x, lens)
    weights, scores = taps[f"{path}.mean_weights"], taps[f"{path}.mean_scores"]
    attn, before = model.layers[1].self_attn, taps["layers.0"][0]
    for b, n in enumerate(LENS):
        q, k = (linear(before[b, :n]).reshape(n, 2, 4) for linear in (attn.linear_q, attn.linear_k))
        expected = torch.einsum("qhd,khd->hqk", q, k) / 2.0
        torch.testing.assert_close(scores[b, :n, :n], expected.mean(0))
        torch.testing.assert_close(weights[b, :n, :n], expected.softmax(-1).mean(0))
        assert weights[b, :, n:].eq(0).all()


@pytest.mark.parametrize("make", [transformer, lambda: GRUClassifier(5, 6, size=4, dropout_rate=0.0).eval()])
def test_batches_equal_single_utterances(make):
    torch.manual_seed(0)
    model, (x, lens) = make(), frames()
    together = model(x, lens)
    for b, n in enumerate(LENS):
        torch.testing.assert_close(together[b], model(x[b : b + 1, :n], lens[b : b + 1])[0], rtol=1e-5, atol=1e-5)
    together.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_utterance_without_frames():
    model, (x, _) = transformer(), frames()
    logits = model(x, torch.tensor([9, 0, 1]))
    assert logits[1].eq(0).all() and logits.isfinite().all() and logits[0].ne(0).all()


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="size 9 is not a multiple of attention_heads 2"):
        TransformerClassifier(5, 6, size=9, attention_heads=2)
