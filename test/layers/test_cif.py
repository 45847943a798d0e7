"""The CIF layer: weights by hand, scaling, padding, and streams cut anywhere."""

import pytest
import torch

from espnet2_kd.layers.cif import CIF

KINDS = {
    "hieradist": {},
    "causal": {"lookahead": 0},
    "paraformer": {
        "depthwise": True,
        "residual": True,
        "activation": "relu",
        "smooth_factor": 1.2,
        "noise_threshold": 0.1,
    },
    "dense": {"kernel_size": 1, "activation": "relu"},
    "linear": {"kernel_size": 0},
    "wide": {"kernel_size": 5, "lookahead": 3, "threshold": 0.95},
}


def layer(kind, **more):
    torch.manual_seed(0)
    return CIF(6, **KINDS[kind], **more).double().eval()


def by_hand(cif, x):
    """(T, D) -> weights (T,), one frame at a time."""
    weights = []
    for t in range(len(x)):
        y = x[t]
        if cif.conv is not None:
            kernel = cif.conv.weight
            if kernel.shape[1] == 1:
                kernel = torch.diag_embed(kernel[:, 0].T).permute(1, 2, 0)
            taps = [(t - cif.history + j, j) for j in range(kernel.shape[2])]
            y = cif.conv.bias + sum(kernel[:, :, j] @ x[s] for s, j in taps if 0 <= s < len(x))
            y = y + x[t] if cif.residual else y
        y = y.clamp(min=0.0) if isinstance(cif.activation, torch.nn.ReLU) else y
        alpha = 1 / (1 + torch.exp(-(cif.linear.weight[0] @ y + cif.linear.bias[0])))
        weights.append((alpha * cif.smooth_factor - cif.noise_threshold).clamp(min=0.0))
    return torch.stack(weights)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_tokens_of_each_utterance_by_itself(kind):
    cif = layer(kind).requires_grad_(False)
    x, lens = torch.randn(3, 14, 6, dtype=torch.float64), torch.tensor([14, 6, 1])
    x[torch.arange(14) >= lens[:, None]] = torch.nan
    tokens = cif(x, lens)
    for b, n in enumerate(lens.tolist()):
        weights = by_hand(cif, x[b, :n])
        torch.testing.assert_close(tokens.alpha[b, :n], weights)
        assert tokens.alpha[b, n:].eq(0).all()
        torch.testing.assert_close(tokens.mass[b], weights.sum())
        fires = int(weights.sum() / cif.threshold)
        assert tokens.lens[b] == fires + (weights.sum() - fires * cif.threshold > cif.tail)
        before, row = 0.0, torch.zeros(6, dtype=torch.float64)
        for t in range(n):  # the first token
            used = min(float(weights[t]), cif.threshold - before)
            before, row = before + used, row + used * x[b, t]
        if fires:
            torch.testing.assert_close(tokens.fired[b, 0], row)


@pytest.mark.parametrize("kind", KINDS)
def test_training_gives_as_many_tokens_as_asked_for(kind):
    cif = layer(kind).train()
    x, lens, num_tokens = torch.randn(3, 14, 6).double(), torch.tensor([14, 6, 1]), torch.tensor([20, 0, 1])
    x.requires_grad_()
    tokens = cif(x, lens, num_tokens)
    assert tokens.fired.shape == (3, 20, 6) and tokens.lens.tolist() == [20, 0, 1]
    # Scaled: the tokens together hold the frames with weights that sum to their number.
    expected = (tokens.alpha[0] * 20 * cif.threshold / tokens.mass[0]) @ x[0]
    torch.testing.assert_close(tokens.fired[0].sum(0), expected)
    loss = cif.quantity_loss(tokens, num_tokens)
    torch.testing.assert_close(loss, (tokens.alpha.sum(1) / cif.threshold - num_tokens).abs())
    (loss.sum() + tokens.fired.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (x, *cif.parameters()))


def test_the_gradient_goes_through_the_factor():
    """Scaled weights do not change when all weights grow alike, so a loss on the tokens must not pull at that."""
    cif = CIF(4, kernel_size=0).double()
    with torch.no_grad():
        cif.linear.weight.zero_()
    x = torch.randn(1, 9, 4, dtype=torch.float64)
    cif(x, torch.tensor([9]), torch.tensor([3])).fired.square().sum().backward()
    assert cif.linear.bias.grad.abs() < 1e-10
    assert cif.linear.weight.grad.abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[1] * 17, [5, 0, 1, 8, 3], [17], [2, 15]])
def test_streams_equal_the_whole(kind, sizes):
    cif = layer(kind)
    x, lens = torch.randn(3, 17, 6, dtype=torch.float64), torch.tensor([17, 7, 3])
    whole = cif(x, lens)
    state, tokens, position = cif.initial_state(3), [[], [], []], 0
    for number, size in enumerate(sizes):
        piece = x[:, position : position + size]
        here = (lens - position).clamp(0, size)
        position += size
        fired, state = cif.forward_chunk(piece, state, final=number == len(sizes) - 1, lens=here)
        for b, count in enumerate(fired.lens.tolist()):
            tokens[b] += list(fired.fired[b, :count])
        assert state.frames.shape[1] <= cif.history + cif.lookahead
    for b, count in enumerate(whole.lens.tolist()):
        assert len(tokens[b]) == count
        if count:
            torch.testing.assert_close(torch.stack(tokens[b]), whole.fired[b, :count])


def test_weights_are_float32_under_autocast():
    cif = CIF(6)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = cif(torch.randn(2, 9, 6), torch.tensor([9, 4]))
    assert tokens.alpha.dtype == tokens.mass.dtype == torch.float32


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="within the kernel of 3"):
        CIF(4, lookahead=3)
    with pytest.raises(ValueError, match="unknown activation 'sine'"):
        CIF(4, activation="sine")
