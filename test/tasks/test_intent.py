"""The intent task: an acoustic front-end taken over from a recogniser, and its whole configuration kept."""

import argparse

import pytest
import torch
import yaml

from espnet2_kd.asr.load import load_model
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.intent import KDIntentTask

TOKENS = ["intent=on", "intent=off", "<unk>"]


def options(folder, **settings):
    config = {
        "token_list": TOKENS,
        "decoder": "speech_transformer",
        "decoder_conf": {"size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 1},
        "model_conf": {"slow_rate": 1},
        **settings,
    }
    (folder / "conf.yaml").write_text(yaml.safe_dump(config))
    command = ["--config", str(folder / "conf.yaml"), "--output_dir", str(folder)]
    return KDIntentTask.get_parser().parse_args(command)


@torch.no_grad()
def test_the_front_end_of_a_recogniser(tiny_experiment, tmp_path):
    exp = tiny_experiment("asr_ears")
    recogniser, _ = load_model(exp, "valid.loss_transducer.ave.pth")
    args = options(tmp_path, acoustic_exp=str(exp))
    torch.manual_seed(0)
    model = KDIntentTask.build_model(args).eval()
    speech, lens = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)), torch.tensor([16000, 9000])
    expected, expected_lens = recogniser.encode(speech, lens)
    found, found_lens = model.encode(speech, lens)
    assert torch.equal(found_lens, expected_lens)
    for b, n in enumerate(expected_lens.tolist()):
        torch.testing.assert_close(found[b, :n], expected[b, :n])
    # What is saved with the weights builds the same model without the experiment.
    kept = argparse.Namespace(**yaml.safe_load(yaml.safe_dump(vars(args), default_flow_style=False)))
    assert kept.acoustic_exp is None
    again = KDIntentTask.build_model(kept).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.logits(speech, lens), model.logits(speech, lens))


def test_a_pack_that_does_not_fit(tiny_experiment, tmp_path):
    exp = tiny_experiment("asr_other_ears")
    config = yaml.safe_load((exp / "config.yaml").read_text())
    config["encoder_conf"]["num_blocks"] += 1
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="its encoder does not fit its configuration"):
        KDIntentTask.build_model(options(tmp_path, acoustic_exp=str(exp)))
