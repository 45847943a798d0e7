import math
import sys

import pytest
import torch

from espnet2_kd.asr.rnnt_loss import RNNTLoss, offer_as_warprnnt


def naive_loss(logits, targets, num_frames, num_labels, blank):
    """Forward algorithm of Graves 2012 for one utterance, one lattice node at a time, differentiable."""
    logp = logits.log_softmax(-1)
    alpha = {(0, 0): logp.new_zeros(())}
    for t in range(num_frames):
        for u in range(num_labels + 1):
            ways = []
            if t > 0:
                ways.append(alpha[t - 1, u] + logp[t - 1, u, blank])
            if u > 0:
                ways.append(alpha[t, u - 1] + logp[t, u - 1, int(targets[u - 1])])
            if ways:
                alpha[t, u] = torch.logsumexp(torch.stack(ways), 0)
    return -(alpha[num_frames - 1, num_labels] + logp[num_frames - 1, num_labels, blank])


def random_batch(t_lens, u_lens, vocab=6, blank=0, extra_t=0, extra_u=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = (len(t_lens), max(t_lens) + extra_t, max(u_lens) + extra_u)
    logits = torch.randn(*size[:2], size[2] + 1, vocab, generator=generator)
    labels = [v for v in range(vocab) if v != blank]
    targets = torch.tensor(labels)[torch.randint(len(labels), (size[0], size[2]), generator=generator)]
    return logits, targets.int(), torch.tensor(t_lens), torch.tensor(u_lens)


CASES = {
    "mixed lengths": ([6, 4, 1], [3, 0, 2]),
    "one utterance": ([5], [3]),
    "no labels at all": ([4, 2], [0, 0]),
    "single frames": ([1, 1], [3, 0]),
    "more labels than frames": ([2], [7]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("extra", [(0, 0), (2, 3)])
def test_values_and_gradients_equal_the_naive_forward_algorithm(case, blank, extra):
    t_lens, u_lens = CASES[case]
    logits, targets, t, u = random_batch(t_lens, u_lens, blank=blank, extra_t=extra[0], extra_u=extra[1])
    weights = torch.arange(1.0, len(t_lens) + 1)

    ours = logits.clone().requires_grad_()
    losses = RNNTLoss(blank=blank, reduction="none")(ours, targets, t, u)
    (losses * weights).sum().backward()

    wide = logits.double().requires_grad_()
    expected = torch.stack([naive_loss(wide[b], targets[b], t_lens[b], u_lens[b], blank) for b in range(len(t_lens))])
    (expected * weights).sum().backward()

    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.grad.double(), wide.grad, atol=1e-5, rtol=1e-4)


def test_reductions():
    batch = random_batch([6, 4, 1], [3, 0, 2])
    each = RNNTLoss(reduction="none")(*batch)
    assert each.shape == (3,)
    torch.testing.assert_close(RNNTLoss()(*batch), each.mean())
    torch.testing.assert_close(RNNTLoss(reduction="sum")(*batch), each.sum())


def test_padding_of_any_content_does_not_matter():
    logits, targets, t, u = random_batch([6, 4, 1], [3, 1, 2], extra_t=2, extra_u=1)
    poisoned = logits.clone()
    for b in range(3):
        poisoned[b, t[b] :] = float("nan")
        poisoned[b, :, u[b] + 1 :] = float("inf")
        targets[b, u[b] :] = -1
    poisoned.requires_grad_()
    losses = RNNTLoss(reduction="none")(poisoned, targets, t, u)
    losses.sum().backward()
    for b in range(3):
        alone = logits[b : b + 1, : t[b], : u[b] + 1].clone().requires_grad_()
        loss = RNNTLoss()(alone, targets[b : b + 1, : u[b]], t[b : b + 1], u[b : b + 1])
        loss.backward()
        torch.testing.assert_close(losses[b], loss)
        torch.testing.assert_close(poisoned.grad[b, : t[b], : u[b] + 1], alone.grad[0])
        assert poisoned.grad[b].abs().nan_to_num(nan=1e9).sum().isclose(alone.grad.abs().sum())


def test_computes_in_float32_under_autocast():
    logits, targets, t, u = random_batch([6, 4], [3, 2])
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = RNNTLoss()(half, targets, t, u)
    assert loss.dtype == torch.float32
    assert loss.item() == RNNTLoss()(half.float(), targets, t, u).item()


def test_uniform_lattice_has_the_closed_form():
    """With uniform outputs every one of the C(T-1+U, U) alignments has probability V^-(T+U)."""
    frames, labels, vocab = 40, 12, 9
    loss = RNNTLoss()(
        torch.zeros(1, frames, labels + 1, vocab),
        torch.ones(1, labels, dtype=torch.int32),
        torch.tensor([frames]),
        torch.tensor([labels]),
    )
    expected = (frames + labels) * math.log(vocab) - math.log(math.comb(frames - 1 + labels, labels))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_arguments_that_cannot_work_are_refused():
    logits, targets, t, u = random_batch([6, 4], [3, 2])
    with pytest.raises(ValueError, match="fastemit_lambda=0.1"):
        RNNTLoss(fastemit_lambda=0.1)
    with pytest.raises(ValueError, match="reduction"):
        RNNTLoss(reduction="average")
    with pytest.raises(ValueError, match="without encoder frames"):
        RNNTLoss()(logits, targets, torch.tensor([6, 0]), u)
    with pytest.raises(ValueError, match="7 frames"):
        RNNTLoss()(logits, targets, torch.tensor([6, 7]), u)
    with pytest.raises(ValueError, match="4 labels"):
        RNNTLoss()(logits, targets, t, torch.tensor([4, 2]))
    with pytest.raises(ValueError, match="batch sizes"):
        RNNTLoss()(logits, targets[:1], t, u)


def test_offered_name_is_importable_and_never_hides_a_module_already_there(monkeypatch):
    monkeypatch.delitem(sys.modules, "warprnnt_pytorch", raising=False)
    offer_as_warprnnt()
    from warprnnt_pytorch import RNNTLoss as offered

    monkeypatch.setattr(sys.modules["warprnnt_pytorch"], "RNNTLoss", "theirs")
    offer_as_warprnnt()
    assert sys.modules["warprnnt_pytorch"].RNNTLoss == "theirs"
    assert isinstance(offered(blank=0, fastemit_lambda=0.0), torch.nn.Module)
