import shutil

import pytest
import torch
import yaml

from espnet2_kd.asr.load import ExperimentError
from espnet2_kd.bin import pack
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.live.systems import choose_checkpoint, load_system


def test_averages_come_before_the_best(tmp_path):
    names = [
        "valid.acc.best.pth",
        "valid.loss_transducer.best.pth",
        "valid.acc.ave.pth",
        "valid.loss_transducer.ave.pth",
    ]
    (tmp_path / "3epoch.pth").touch()
    with pytest.raises(ExperimentError, match=r"--model_file: 3epoch\.pth"):
        choose_checkpoint(tmp_path)
    for name in names:
        (tmp_path / name).touch()
        assert choose_checkpoint(tmp_path) == name
    with pytest.raises(ExperimentError, match="no such experiment directory"):
        choose_checkpoint(tmp_path / "none" / "x")


def test_what_clients_are_told(student, teacher, intents):
    about = [load_system(exp, name).about for exp, name in ((student, None), (teacher, "T"), (intents, "I"))]
    full = {"mode": "full_context", "chunk_ms": None, "lookahead_ms": None, "guess_ms": 1000.0, "note": None}
    chunks = {
        "mode": "streaming",
        "chunk_ms": 80.0,
        "lookahead_ms": (10 * 160 + 512) / 16,
        "guess_ms": None,
        "note": None,
    }
    assert about == [
        {"name": "live_student", "kind": "words", "rate": 16000, **chunks},
        {"name": "T", "kind": "words", "rate": 16000, **full},
        {"name": "I", "kind": "intents", "rate": 16000, **full},
    ]


def test_decoding_settings(student, intents, noise, tmp_path):
    (tmp_path / "decode.yaml").write_text("chunk_ms: 160\n")
    assert load_system(student, config=tmp_path / "decode.yaml").about["chunk_ms"] == 160.0
    with pytest.raises(ConfigError, match="no decoding settings"):
        load_system(intents, config=tmp_path / "decode.yaml")


def test_a_model_that_cannot_stream_answers_at_the_end(student, noise, tmp_path):
    exp = tmp_path / "exp/asr"
    shutil.copytree(student, exp)
    config = yaml.safe_load((exp / "config.yaml").read_text())
    config |= {"normalize": "utterance_mvn", "normalize_conf": {}}
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    weights = exp / "valid.loss_transducer.ave.pth"
    state = torch.load(weights, weights_only=True)
    torch.save({key: value for key, value in state.items() if not key.startswith("normalize.")}, weights)
    system = load_system(exp)
    assert system.about["mode"] == "full_context" and "needs the whole utterance" in system.about["note"]
    assert system.open_stream(16000).accept(noise(32000), True).found["words"]


@pytest.mark.parametrize("kind", ["asr", "intent"])
def test_packs(kind, student, intents, noise, tmp_path, monkeypatch):
    exp = {"asr": student, "intent": intents}[kind]
    recipe = exp.parents[1] if kind == "asr" else exp.parent
    stats = "exp/asr_stats/train/feats_stats.npz" if kind == "asr" else f"{exp.name}/acoustic_stats.npz"
    file = {"asr": "valid.loss_transducer.ave.pth", "intent": "valid.acc.best.pth"}[kind]
    monkeypatch.chdir(recipe)
    options = ["--exp", str(exp.relative_to(recipe)), "--kind", kind, "--model_file", file, "--option", stats]
    assert pack.main([*options, "--outpath", str(tmp_path / "m.zip")]) == 0
    monkeypatch.chdir(tmp_path)
    samples = noise(20000)
    found = [load_system(model).open_stream(16000).accept(samples, True).found for model in (tmp_path / "m.zip", exp)]
    assert found[0] == found[1] and all(found[0].values())
