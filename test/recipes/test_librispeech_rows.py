"""Every row of the streaming paper's tables: its settings as published, and a pass through a narrow copy of its models."""

from pathlib import Path

import pytest
import torch
import yaml

from espnet2_kd.tasks.asr import KDASRTask
from espnet2_kd.tasks.config import load_config

CONF = Path(__file__).resolve().parents[2] / "egs2/librispeech/asr1/conf"
BRANCHES = {
    # row: taps, mask, weights
    "aux_dis": ([4, 8, 12, 16], "none", {"distance": 0.01}),
    "aux_dis_kld": ([4, 8, 12, 16], "none", {"distance": 0.01, "relation": 0.0005}),
    "aux_dis_apc": ([4, 8, 12, 16], "hole", {"distance": 0.01, "future": 0.005}),
    "aux_all": ([4, 8, 12, 16], "hole", {"distance": 0.01, "relation": 0.0005, "future": 0.005}),
    "aux_all_nomask": ([4, 8, 12, 16], "none", {"distance": 0.01, "relation": 0.0005, "future": 0.005}),
    "aux_all_unlab": ([4, 8, 12, 16], "hole", {"distance": 0.01, "relation": 0.0005, "future": 0.005}),
    "aux_all_taps8_16": ([8, 16], "hole", {"distance": 0.01, "relation": 0.0005, "future": 0.005}),
    "aux_all_taps16": ([16], "hole", {"distance": 0.01, "relation": 0.0005, "future": 0.005}),
}
UNLABELLED = {
    "unlabelled_data_path_and_name_and_type": [["wav.scp", "speech", "sound"]],
    "unlabelled_shape_file": ["utt2num_samples"],
}
ROWS = sorted(path.stem.removeprefix("train_") for path in CONF.glob("train_*.yaml"))
TOKENS = ["<blank>", "<unk>", "A", "B", "C", "<sos/eos>"]


def row(name):
    return load_config(CONF / f"train_{name}.yaml")


def test_the_models_are_the_papers():
    teacher, student = row("teacher_full")["encoder_conf"], row("student_stream")["encoder_conf"]
    sizes = ("num_blocks", "output_size", "attention_heads", "chunk_ms", "left_ms", "causal_conv")
    assert [teacher.get(key) for key in sizes] == [16, 512, 8, None, None, False]
    assert [student.get(key) for key in sizes] == [16, 256, 4, 160, 640, True]
    assert "right_ms" not in student
    assert row("teacher_full")["optim_conf"]["lr"] == 1.25e-3


@pytest.mark.parametrize("name", BRANCHES)
def test_branches(name):
    taps, mask, weights = BRANCHES[name]
    config, student = row(name), row("student_stream")
    assert {key: config[key] for key in student} == student and config["teacher"] == "espnet"
    terms = config["kd_terms"]
    assert [term["student"] for term in terms] == [f"encoder.encoders.{tap - 1}" for tap in taps]
    for term in terms:
        assert term["head"]["nonstreaming"]["mask"] == mask and term["head"]["nonstreaming"]["num_heads"] == 8
        assert {loss: keywords["weight"] for loss, keywords in term["losses"].items()} == weights


def test_baselines():
    shifts = {d: row(f"kd_token_shift{d}")["kd_terms"][0]["loss"]["output_kl"]["shift"] for d in (1, 2, 4, 8)}
    assert all(d == shift for d, shift in shifts.items())
    assert row("kd_token_collapsed")["kd_terms"][0]["loss"]["output_kl"]["collapsed"] is True
    assert row("dual_mode")["teacher"] == "dual"
    assert [term["head"] for term in row("layerkd_noaux_dis")["kd_terms"]] == ["projection"] * 4


def narrow(config, folder, **more):
    """The same model and terms, an eighth or less as wide."""
    width = config["encoder_conf"]["output_size"] // 16
    config["encoder_conf"] |= {"output_size": width, "linear_units": width, "input_channels": 4}
    config["decoder_conf"]["hidden_size"] = config["joint_net_conf"]["joint_space_size"] = width
    (folder / "tokens.txt").write_text("\n".join(TOKENS) + "\n")
    (folder / "conf.yaml").write_text(
        yaml.safe_dump(config | {"token_list": str(folder / "tokens.txt"), "token_type": "char", **more})
    )
    command = ["--config", str(folder / "conf.yaml"), "--output_dir", str(folder), "--normalize", "utterance_mvn"]
    return KDASRTask.get_parser().parse_args(command)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe") / "exp"
    folder.mkdir()
    torch.manual_seed(0)
    args = narrow(row("teacher_full"), folder)
    torch.save(KDASRTask.build_model(args).state_dict(), folder / "valid.loss_transducer.ave.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    return folder


@pytest.mark.parametrize("name", ROWS)
def test_row_learns(name, teacher, tmp_path):
    config = row(name)
    more = {"teacher_conf": {"exp": str(teacher)}} if config.get("teacher") == "espnet" else {}
    unlabelled = {}
    if name == "aux_all_unlab":
        assert config["unlabelled_ratio"] == 1.0
        more |= UNLABELLED
        unlabelled = {
            "unlabelled_speech": torch.randn(2, 9000),
            "unlabelled_speech_lengths": torch.tensor([9000, 8000]),
        }
    torch.manual_seed(1)
    model = KDASRTask.build_model(narrow(config, tmp_path, **more)).train()
    loss, stats, _ = model(
        speech=torch.randn(2, 16000),
        speech_lengths=torch.tensor([16000, 12000]),
        text=torch.tensor([[2, 3, 4], [3, 2, -1]]),
        text_lengths=torch.tensor([3, 2]),
        **unlabelled,
    )
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    losses = [key for key in stats if key.startswith("loss_kd_")]
    expected = sum(len(term.get("losses", "x")) for term in config.get("kd_terms", []))
    assert len(losses) == expected and all(stats[key] > 0 for key in losses)
