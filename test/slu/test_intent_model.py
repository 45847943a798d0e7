"""Losses, answers and frozen parts of the intent model, by definition."""

import math

import pytest
import torch
from torch import nn

from espnet2_kd.data.intents import slots_of
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.layers.pooling import SlowFrames
from espnet2_kd.slu.classifiers import TransformerClassifier
from espnet2_kd.slu.intent_model import IntentModel

CLASSES = ["action=on", "object=lamp", "action=off", "object=heat", "object=none", "<unk>"]


class Ears(nn.Module):
    """An encoder with everything that must stand still when frozen."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(1, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, x, lens):
        x = self.linear(x[:, : x.shape[1] // 4 * 4].unflatten(1, (-1, 4)).mean(2, keepdim=True))
        return self.dropout(self.norm(x.transpose(1, 2)).transpose(1, 2)), lens // 4, None


def model(**options):
    torch.manual_seed(0)
    decoder = TransformerClassifier(5, 6, size=8, attention_heads=2, linear_units=8, num_blocks=1, dropout_rate=0.0)
    return IntentModel(CLASSES, None, None, None, None, Ears(), decoder, slow_rate=3, **options)


def batch():
    speech = torch.randn(3, 80, generator=torch.Generator().manual_seed(2))
    # In any order, as a label file may have them.
    label = torch.tensor([[0, 4], [3, 2], [2, 1]])
    return {
        "speech": speech,
        "speech_lengths": torch.tensor([80, 33, 61]),
        "label": label,
        "label_lengths": torch.full((3,), 2),
    }


@pytest.mark.parametrize("num", [0, 1, 7, 9])
def test_slow_frames(num):
    x, lens = torch.randn(2, 9, 4), torch.tensor([9, num])
    x[1, num:] = torch.nan
    slow, slow_lens = SlowFrames(3)(x, lens)
    for b, n in enumerate(lens.tolist()):
        parts = [x[b, start : min(start + 3, n)].mean(0) for start in range(0, n, 3)]
        assert slow_lens[b] == len(parts)
        for found, expected in zip(slow[b], parts):
            torch.testing.assert_close(found, expected)
        assert slow[b, len(parts) :].eq(0).all()


def test_loss_by_definition():
    """Cross entropy of each slot among its own classes; the smoothing goes to the wrong ones alike."""
    net, data = model(lsm_weight=0.1).eval(), batch()
    loss, stats, weight = net(**data)
    logits = net.logits(data["speech"], data["speech_lengths"])
    wanted = [{"action": 0, "object": 4}, {"action": 2, "object": 3}, {"action": 2, "object": 1}]
    slots = {"action": [0, 2], "object": [1, 3, 4]}
    total, right = 0.0, []
    for b, classes in enumerate(wanted):
        hits = []
        for slot, label in classes.items():
            among = slots[slot]
            scale = sum(math.exp(float(logits[b, c])) for c in among)
            for c in among:
                share = 0.9 if c == label else 0.1 / (len(among) - 1)
                total -= share * math.log(math.exp(float(logits[b, c])) / scale)
            hits.append(max(among, key=lambda c: float(logits[b, c])) == label)
        right.append(hits)
    assert float(loss) == pytest.approx(total / 3, abs=1e-5) and int(weight) == 3
    assert float(stats["acc"]) == pytest.approx(sum(map(all, right)) / 3)
    assert float(stats["acc_action"]) == pytest.approx(sum(hits[0] for hits in right) / 3)


def test_answers():
    net, data = model().eval(), batch()
    logits = net.logits(data["speech"], data["speech_lengths"])
    for b, found in enumerate(net.predict(data["speech"], data["speech_lengths"])):
        for slot, classes in {"action": [0, 2], "object": [1, 3, 4]}.items():
            probabilities = logits[b, classes].softmax(0)
            value, probability = found[slot]
            assert f"{slot}={value}" == CLASSES[classes[int(probabilities.argmax())]]
            assert probability == pytest.approx(float(probabilities.max()), abs=1e-6)


def test_what_is_frozen_stands_still():
    net, data = model(), batch()
    before = {name: value.clone() for name, value in net.encoder.state_dict().items()}
    net.train()
    first, second = (net.encode(data["speech"], data["speech_lengths"])[0] for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(**data)[0].backward()
    optimizer.step()
    for name, value in net.encoder.state_dict().items():
        assert torch.equal(value, before[name])
    tuned = model(freeze=False).train()
    tuned(**data)[0].backward()
    assert all(p.grad is not None for p in tuned.encoder.parameters())


def test_what_nothing_can_do_to_frames_taken_beforehand():
    frames = {**batch(), "speech": torch.randn(3, 6, 6), "speech_lengths": torch.tensor([6, 3, 5])}
    tuned = model(freeze=False)
    with pytest.raises(ConfigError, match="freeze: false cannot do anything with frames that were taken beforehand"):
        tuned.train()(**frames)
    assert torch.isfinite(tuned.eval()(**frames)[0])
    masked = model().train()
    masked.specaug = torch.nn.Identity()
    with pytest.raises(ConfigError, match="specaug cannot do anything with frames"):
        masked(**frames)


def test_an_encoder_with_ctc_outputs_inside():
    net, data = model().eval(), batch()
    expected, forward = net.logits(data["speech"], data["speech_lengths"]), net.encoder.forward

    def inside(x, lens):
        x, lens, state = forward(x, lens)
        return (x, [(1, x)]), lens, state

    net.encoder.forward = inside
    torch.testing.assert_close(net.logits(data["speech"], data["speech_lengths"]), expected)


def test_batches_equal_single_utterances():
    net, data = model().eval(), batch()
    together = net.logits(data["speech"], data["speech_lengths"])
    for b, n in enumerate(data["speech_lengths"].tolist()):
        alone = net.logits(data["speech"][b : b + 1, :n], data["speech_lengths"][b : b + 1])
        torch.testing.assert_close(together[b], alone[0], rtol=1e-5, atol=1e-5)


def test_labels_that_do_not_fit():
    net, data = model(), batch()
    for label in ([[0, 2], [3, 2], [2, 1]], [[0, 4], [3, 5], [2, 1]]):  # two actions; an unknown action
        with pytest.raises(
            ConfigError, match="label: utterance . of a batch has not exactly one known value of the slot"
        ):
            net(**{**data, "label": torch.tensor(label)})
    with pytest.raises(ConfigError, match="label: utterance b has not exactly one"):
        net(**{**data, "label": torch.tensor([[0, 4], [3, 5], [2, 1]])}, utt_id=["a", "b", "c"])
    with pytest.raises(ValueError, match="label 'lamp': classes are named slot=value"):
        slots_of(["lamp", "<unk>"])
    with pytest.raises(ConfigError, match="token_list: label 'lamp': classes are named slot=value"):
        IntentModel(["lamp", "<unk>"], None, None, None, None, net.encoder, net.decoder)
    with pytest.raises(ConfigError, match="token_list: <unk> is not the last"):
        IntentModel(["<unk>", "a=b"], None, None, None, None, net.encoder, net.decoder)
    with pytest.raises(ValueError, match="slow_rate 0: how many frames make one, from 1"):
        SlowFrames(0)
