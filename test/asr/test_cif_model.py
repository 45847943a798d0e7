"""The losses of the CIF recogniser against loops in float64, and what must not change them."""

import pytest
import torch

from espnet2_kd.kd.taps import record, resolve_lens
from espnet2_kd.ops.cif import cif_fire


def batch(lens=(16000, 9000, 12000), labels=((2, 3, 3, 4), (), (4, 2))):
    generator = torch.Generator().manual_seed(3)
    longest = max(len(row) for row in labels)
    return {
        "speech": torch.randn(len(lens), max(lens), generator=generator) * 0.1,
        "speech_lengths": torch.tensor(lens),
        "text": torch.tensor([[*row, *[-1] * (longest - len(row))] for row in labels]),
        "text_lengths": torch.tensor([len(row) for row in labels]),
    }


def ctc_by_hand(log_probs, labels, blank=0):
    """-log of the summed probability of all alignments, by the forward recursion (Graves et al. 2006, 4.1)."""
    states = [blank]
    for label in labels:
        states += [label, blank]
    alpha = [log_probs[0, states[0]]] + ([log_probs[0, states[1]]] if len(states) > 1 else [])
    alpha += [torch.tensor(-1e300, dtype=torch.float64)] * (len(states) - len(alpha))
    for t in range(1, len(log_probs)):
        new = []
        for s, state in enumerate(states):
            ways = [alpha[s]] + ([alpha[s - 1]] if s else [])
            if s > 1 and state not in (blank, states[s - 2]):
                ways.append(alpha[s - 2])
            new.append(torch.logsumexp(torch.stack(ways), 0) + log_probs[t, state])
        alpha = new
    return -torch.logsumexp(torch.stack(alpha[-2:]), 0)


def losses_by_hand(model, data, smoothing, eos):
    """The three losses of each utterance by itself, summed."""
    ce = ctc = quantity = 0.0
    num = 0
    for b, n in enumerate(data["text_lengths"].tolist()):
        speech = data["speech"][b : b + 1, : data["speech_lengths"][b]]
        enc, lens = model.encode(speech, data["speech_lengths"][b : b + 1])
        enc = enc[:, : int(lens[0])]
        labels = data["text"][b, :n].tolist() + ([model.eos] if eos else [])
        alpha = model.cif._weigh(torch.nn.functional.pad(enc, (0, 0, model.cif.history, model.cif.lookahead)))
        weights = alpha * len(labels) / alpha.sum()
        fired, _ = cif_fire(enc, weights, lens, num_tokens=torch.tensor([len(labels)]), impl="naive")
        before = [model.sos, *labels[:-1]] if labels else []
        logits, _ = model.decoder(fired, torch.tensor([len(labels)]), torch.tensor([before], dtype=torch.long), None)
        log_probs = logits[0].log_softmax(-1)
        for i, label in enumerate(labels):
            for other in range(model.vocab_size):
                share = 1 - smoothing if other == label else smoothing / (model.vocab_size - 1)
                ce = ce - share * log_probs[i, other]
        quantity = quantity + (alpha.sum() - len(labels)).abs()
        ctc = ctc + ctc_by_hand(model.ctc.log_softmax(enc)[0], labels)
        num += len(labels)
    return ce, quantity, ctc, num


@pytest.mark.parametrize("eos", [True, False])
def test_losses_and_gradients(cif_model, eos):
    model = cif_model(ctc_weight=0.7, quantity_weight=0.3, lsm_weight=0.2, cif_eos=eos).double()
    data = batch()
    data["speech"] = data["speech"].double()
    # One utterance has no label at all.
    loss, stats, weight = model(**data)
    ce, quantity, ctc, num = losses_by_hand(model, data, smoothing=0.2, eos=eos)
    assert weight == num == (9 if eos else 6)
    for name, value in (("loss_ce", ce), ("loss_quantity", quantity), ("loss_ctc", ctc)):
        torch.testing.assert_close(stats[name], value.reshape(1) / num)
    expected = (ce + 0.3 * quantity + 0.7 * ctc) / num
    torch.testing.assert_close(loss, expected.reshape(1))
    torch.testing.assert_close(stats["count_error"], quantity.reshape(1) / 3)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = [dict(model.named_parameters())[name] for name in names]
    found = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
    wanted = torch.autograd.grad(expected, parameters, allow_unused=True)
    for name, x, y in zip(names, found, wanted, strict=True):
        assert x is not None, name  # DistributedDataParallel waits for every parameter
        torch.testing.assert_close(x, y, msg=lambda text, name=name: f"{name}: {text}")


def test_accuracy_counts_labels_and_the_end(cif_model):
    model, data = cif_model(), batch(labels=((2, 3), (4,), (2,)))
    enc, lens = model.encode(data["speech"], data["speech_lengths"])
    num = data["text_lengths"] + 1
    targets = torch.tensor([[2, 3, 5], [4, 5, -1], [2, 5, -1]])
    before = torch.tensor([[5, 2, 3], [5, 4, 5], [5, 2, 5]])
    best = model.decoder(model.cif(enc, lens, num).fired, num, before, num)[0].argmax(-1)
    right = int((best == targets).sum())
    _, stats, _ = model(**data)
    assert float(stats["acc"]) == pytest.approx(right / 7)


def test_what_is_in_the_padding_does_not_matter(cif_model):
    model, data = cif_model(), batch()
    loss = model(**data)[0]
    noisy = {**data, "speech": data["speech"].clone(), "text": data["text"].clone()}
    noisy["speech"][torch.arange(16000) >= data["speech_lengths"][:, None]] = 7.0
    noisy["text"][torch.arange(4) >= data["text_lengths"][:, None]] = 3
    torch.testing.assert_close(model(**noisy)[0], loss)


def test_more_labels_than_frames(cif_model):
    """CTC cannot align them and leaves them to the others; the CIF layer still gives a token for each label."""
    model, data = cif_model(), batch(lens=(4000,), labels=((2, 3, 4) * 6,))
    loss, stats, weight = model(**data)
    assert weight == 19 and stats["loss_ctc"] == 0 and loss.isfinite() and stats["loss_ce"] > 0
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_taps_carry_the_number_of_tokens(cif_model):
    model, data = cif_model(), batch()
    with record(model, ["cif", "decoder.state", "encoder"]) as taps:
        model(**data)
    seqs = resolve_lens(taps, data)
    for name in ("cif", "decoder.state"):
        assert seqs[name].x.shape == (3, 5, 12) and seqs[name].lens.tolist() == [5, 1, 3]


def test_no_ctc(cif_model):
    model = cif_model(ctc_weight=0.0)
    assert not any(name.startswith("ctc") for name, _ in model.named_parameters())
    loss, stats, _ = model(**batch())
    assert stats["loss_ctc"] is None
    torch.testing.assert_close(loss, stats["loss_ce"] + stats["loss_quantity"])


def test_under_autocast(cif_model):
    model, data = cif_model(), batch()
    loss = model(**data)[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = model(**data)[0]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss, rtol=0.05, atol=0.05)
