import math

import pytest
import torch

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.kd.registry import ConfigError


def write(tmp_path, text):
    path = tmp_path / "decode.yaml"
    path.write_text(text)
    return path


def test_settings_and_defaults(tmp_path):
    assert DecodeConfig.read(None) == DecodeConfig.read(write(tmp_path, "")) == DecodeConfig("greedy", 4, None)
    assert DecodeConfig.read(write(tmp_path, "search: beam\nchunk_ms: 320\n")) == DecodeConfig("beam", 4, chunk_ms=320)
    context = DecodeConfig.read(write(tmp_path, "left_ms: .inf\nright_ms: 0\n")).context
    assert context == {"left_ms": math.inf, "right_ms": 0}


@pytest.mark.parametrize(
    "text,message",
    [
        ("beamsize: 3", r"decode.yaml: beamsize: unknown setting: did you mean beam_size\?"),
        ("search: nucleus", "choose greedy or beam"),
        ("beam_size: 0", "beam_size: 0: give a whole number"),
        ("max_symbols: 1.5", "max_symbols: 1.5"),
        ("chunk_ms: -40", "chunk_ms: -40"),
        ("chunk_ms: wide", "chunk_ms: 'wide'"),
        ("chunk_ms: .inf", "chunk_ms: inf"),
        ("left_ms: .nan", "left_ms: nan"),
        ("right_ms: -1", "right_ms: -1"),
        ("tail: much", "tail: 'much'"),
        ("tail: -0.1", "tail: -0.1"),
        ("lm_weight: .inf", "lm_weight: inf"),
        ("search: [", "decode.yaml"),
        ("!!python/object/apply:os.getcwd []", "decode.yaml"),
        ("- greedy", "decode.yaml"),
    ],
)
def test_settings_that_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        DecodeConfig.read(write(tmp_path, text))


def test_a_tail_is_set_and_fits_no_transducer(tiny_experiment):
    from espnet2_kd.asr.load import load_model

    model, _ = load_model(tiny_experiment("asr_tail"), "valid.loss_transducer.ave.pth")
    with pytest.raises(ConfigError, match="tail: the model has no CIF layer"):
        DecodeConfig(tail=0.4).apply(model)
    assert DecodeConfig().apply(model).max_symbols == 3
    model.cif = torch.nn.Module()
    model.cif.tail, model.cif_eos, model.sos, model.eos = 0.5, True, 3, 3
    DecodeConfig(tail=0.4).apply(model)
    assert model.cif.tail == 0.4


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no.yaml"):
        DecodeConfig.read(tmp_path / "no.yaml")
