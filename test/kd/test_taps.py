"""Reading values and lengths out of a model."""

import pytest
import torch
from torch import nn

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.taps import as_seq, module_at, record, resolve_lens

X = torch.randn(2, 3, 4)
MASK = torch.tensor([[[True, True, True]], [[True, False, False]]])
LENS = torch.tensor([3, 1])


@pytest.mark.parametrize(
    "value",
    [
        (X, MASK),
        ((X, torch.randn(1, 5, 4)), MASK),
        (X, MASK, torch.randn(1, 5, 4)),
        (X, LENS, None),
        (X, MASK.squeeze(1)),
    ],
    ids=["transformer", "conformer", "transducer block", "encoder", "flat mask"],
)
def test_the_layer_outputs_of_espnet(value):
    seq = as_seq(value)
    assert seq.x is X
    assert seq.lens.tolist() == [3, 1]


def test_values_without_lengths():
    assert as_seq(X).lens is None
    assert as_seq((X, (torch.randn(1, 2, 4), torch.randn(1, 2, 4)))).lens is None
    assert as_seq(torch.randn(2, 4)).mask.tolist() == [True, True]
    with pytest.raises(TypeError, match="dict"):
        as_seq({"x": X})


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 6)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_record_reads_inputs_and_outputs_and_leaves_nothing_behind():
    model = Model()
    with record(model, ["layers.0", "layers.1:input", "layers.1"]) as values:
        out = model(X)
    assert torch.equal(values["layers.1"], out)
    assert torch.equal(values["layers.0"], values["layers.1:input"][0])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(RuntimeError, match="boom"), record(model, ["layers.0"]):
        raise RuntimeError("boom")
    assert not model.layers[0]._forward_hooks


def test_a_wrong_path_lists_the_nearest():
    with pytest.raises(ConfigError, match=r"no submodule 'layer\.1'.*layers\.1"):
        module_at(Model(), "layer.1", "tap")


def test_lengths_are_inherited_from_a_tap_with_the_same_frames():
    batch = {"text": torch.tensor([[1, 2, 3, 4], [5, 6, -1, -1]]), "text_lengths": torch.tensor([4, 2])}
    taps = resolve_lens(
        {"encoder": (X, LENS, None), "q": torch.randn(2, 3, 8), "joint": torch.randn(2, 3, 5, 7)}, batch
    )
    assert taps["q"].lens.tolist() == [3, 1]
    assert taps["joint"].label_lens.tolist() == [5, 3] and taps["joint"].labels is batch["text"]
    assert taps["joint"].mask.sum().item() == 3 * 5 + 1 * 3
    with pytest.raises(ConfigError, match="no tapped layer has 9 frames"):
        resolve_lens({"encoder": (X, LENS, None), "q": torch.randn(2, 9, 8)}, {})
    with pytest.raises(ConfigError, match="the batch's `text`"):
        resolve_lens({"encoder": (X, LENS, None), "joint": torch.randn(2, 3, 5, 7)}, {})


def test_lengths_of_a_decoder_layer_are_not_those_of_its_first_row():
    """Its mask is causal: the first token sees itself alone."""
    lens = torch.tensor([5, 3])
    causal = torch.ones(5, 5, dtype=torch.bool).tril() & (torch.arange(5) < lens[:, None])[:, None]
    assert as_seq((torch.zeros(2, 5, 4), causal)).lens.tolist() == [5, 3]
