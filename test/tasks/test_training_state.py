"""Whatever a killed run leaves behind, the next one goes on from a whole state, or says that it cannot."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.asr import KDASRTask
from espnet2_kd.tasks.training_state import PREVIOUS, STATE, read_state, require_weights, whole_files

ROOT = Path(__file__).resolve().parents[2]


class Unwritable:
    def __reduce__(self):
        raise RuntimeError("killed")


class Program:
    def __reduce__(self):
        return os.system, ("touch executed",)


def save(folder, number):
    with whole_files():
        torch.save({"number": number}, folder / STATE)


def test_a_state_is_replaced_whole_and_the_one_before_is_kept(tmp_path):
    save(tmp_path, 1)
    assert os.listdir(tmp_path) == [STATE]
    save(tmp_path, 2)
    with whole_files(), pytest.raises(RuntimeError, match="killed"):
        torch.save({"number": 3, "rest": Unwritable()}, tmp_path / STATE)
    assert sorted(os.listdir(tmp_path)) == [PREVIOUS, STATE]
    assert read_state(tmp_path / STATE, "cpu") == {"number": 2}
    assert read_state(tmp_path / PREVIOUS, "cpu") == {"number": 1}


def test_other_files_have_no_predecessor_and_torch_is_left_as_it_was(tmp_path):
    before = torch.save
    with whole_files():
        for _ in range(2):
            torch.save({"a": torch.ones(2)}, str(tmp_path / "1epoch.pth"))
        with open(tmp_path / "stream", "wb") as stream:
            torch.save({"a": 1}, stream)
    assert torch.save is before
    assert sorted(os.listdir(tmp_path)) == ["1epoch.pth", "stream"]
    assert torch.load(tmp_path / "1epoch.pth")["a"].sum() == 2 and torch.load(tmp_path / "stream") == {"a": 1}


@pytest.mark.parametrize("fault", ["cut", "changed", "empty", "missing", "program"])
def test_a_damaged_state_gives_way_to_the_one_before(fault, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, 1)
    save(tmp_path, 2)
    content = (tmp_path / STATE).read_bytes()
    middle = content.index(b"number") + 1
    damaged = {
        "cut": content[: len(content) // 2],
        "changed": content[:middle] + b"X" + content[middle + 1 :],
        "empty": b"",
        "program": pickle.dumps(Program()),
    }
    if fault == "missing":
        (tmp_path / STATE).unlink()
    else:
        (tmp_path / STATE).write_bytes(damaged[fault])
    assert read_state(tmp_path / STATE, "cpu") == {"number": 1}
    assert "the state before it is taken" in caplog.text and STATE in caplog.text
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(ConfigError, match="move .* away to train anew"):
        read_state(tmp_path / STATE, "cpu")
    assert not (tmp_path / "executed").exists()


def test_weights_to_begin_with_are_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"encoder.a": torch.ones(2)}, "weights.pth")
    torch.save({"encoder.a": torch.ones(2)}, "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"encoder.a": Program()}, "program.pth")
    Path("damaged.pth").write_bytes(Path("weights.pth").read_bytes()[:100])
    for name in ("weights.pth", "old.pth:encoder:encoder"):
        require_weights(name)
    command = ["--output_dir", "exp", "--init_param"]
    for name in ("program.pth:encoder", "damaged.pth"):
        args = KDASRTask.get_parser().parse_args([*command, name])
        with pytest.raises(
            ConfigError, match=f"--init_param {name.split(':')[0]}: holds more than weights, or is damaged"
        ):
            KDASRTask.main_worker(args)
    with pytest.raises(ConfigError, match="no such file"):
        require_weights("nothing.pth")
    assert not Path("executed").exists()


def train(folder, max_epoch):
    config = {
        **{"frontend": "default", "frontend_conf": {"n_fft": 128, "hop_length": 160, "n_mels": 8}},
        **{"normalize": "utterance_mvn", "encoder": "rnn", "encoder_conf": {"num_layers": 1, "hidden_size": 4}},
        **{"decoder": "rnn", "decoder_conf": {"num_layers": 1, "hidden_size": 4}, "model_conf": {"ctc_weight": 1.0}},
        **{"token_list": ["<blank>", "<unk>", "a", "b", "<sos/eos>"], "token_type": "char", "batch_type": "unsorted"},
        **{"batch_size": 2, "num_workers": 0, "num_att_plot": 0, "ngpu": 0, "keep_nbest_models": 2, "optim": "adam"},
        **{"best_model_criterion": [["valid", "loss", "min"]], "fold_length": [80000], "max_epoch": max_epoch},
        "output_dir": str(folder / "exp"),
        "resume": True,
    }
    for part in ("train", "valid"):
        config[f"{part}_data_path_and_name_and_type"] = [
            [str(folder / "wav.scp"), "speech", "sound"],
            [str(folder / "text"), "text", "text"],
        ]
        config[f"{part}_shape_file"] = [str(folder / "speech_shape")]
    (folder / "conf.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "espnet2_kd.bin.asr_train", "--config", str(folder / "conf.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def test_a_training_goes_on_as_if_nothing_had_happened(tmp_path):
    import numpy as np
    import soundfile

    generator = np.random.default_rng(0)
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
    for n in range(4):
        soundfile.write(tmp_path / f"u{n}.wav", generator.standard_normal(8000) * 0.1, 16000)
    for name in ("straight", "killed"):
        tables = {"wav.scp": "u{n} {path}/u{n}.wav", "text": "u{n} ab", "speech_shape": "u{n} 8000"}
        for table, line in tables.items():
            rows = [line.format(n=n, path=tmp_path) for n in range(4)]
            (tmp_path / name / table).write_text("\n".join(rows) + "\n")
    train(tmp_path / "straight", 3)
    killed = tmp_path / "killed"
    train(killed, 2)
    # Killed in epoch 3, while it wrote its state, and before: the weights of an epoch were not there yet.
    (killed / "exp" / STATE).write_bytes(b"half")
    (killed / "exp" / "1epoch.pth").unlink()
    (killed / "exp" / ".2epoch.pth.99.tmp").write_bytes(b"half")
    log = train(killed, 3)
    assert "the state before it is taken" in log and "Training goes on after epoch 1" in log
    assert not list((killed / "exp").glob(".*.tmp"))
    results = []
    for name in ("straight", "killed"):
        folder = tmp_path / name / "exp"
        weights = {file: torch.load(folder / file) for file in ("3epoch.pth", "valid.loss.ave.pth")}
        results.append(
            {f"{file} {key}": value.tolist() for file, state in weights.items() for key, value in state.items()}
        )
    assert json.dumps(results[0]) == json.dumps(results[1])
