"""Classifying: files, folders of audio and of frames give the same answers."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet2_kd.asr.pack_writer import write_pack
from espnet2_kd.bin import acoustic_frames
from espnet2_kd.bin.classify import main
from espnet2_kd.data.table import read_table, write_table
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.intent import KDIntentTask
from espnet2_kd.tasks.intent_classifier import IntentClassifier

TOKENS = ["intent=off", "intent=on", "room=hall", "room=none", "<unk>"]


@pytest.fixture(scope="session")  # workers may come back to a module
def ears(tiny_experiment):
    return tiny_experiment("asr_of_intents")


@pytest.fixture(scope="module")
def recipe(ears, make_classifier, tmp_path_factory):
    """Directory with a random classifier `exp/intent` on top of `ears`, and `data` with two utterances."""
    folder = tmp_path_factory.mktemp("slu")
    data = folder / "data"
    data.mkdir()
    make_classifier(folder / "exp/intent", ears, TOKENS, "valid.acc.ave.pth")
    generator = np.random.default_rng(0)
    for utt, num in (("utt1", 16000), ("utt2", 23000)):
        soundfile.write(data / f"{utt}.wav", generator.normal(0, 0.1, num), 16000)
    write_table(data / "wav.scp", {utt: str(data / f"{utt}.wav") for utt in ("utt1", "utt2")})
    for name in ("utt2spk", "spk2utt"):
        write_table(data / name, {"utt1": "utt1", "utt2": "utt2"})
    return folder


def samples(recipe, utt):
    return soundfile.read(recipe / f"data/{utt}.wav", dtype="float32")[0]


def test_one_line_takes_files_samples_and_their_rate(recipe, tmp_path):
    from espnet2_kd import from_pretrained
    from espnet2_kd.asr.load import ExperimentError

    classifier = from_pretrained(recipe / "exp/intent")
    x = samples(recipe, "utt2")
    assert isinstance(classifier, IntentClassifier)
    expected = classifier.batch([x])[0]
    for audio in (x, torch.from_numpy(x), (x, 16000), recipe / "data/utt2.wav", str(recipe / "data/utt2.wav")):
        assert classifier(audio) == expected
    files = {"model_file": recipe / "exp/intent/valid.acc.ave.pth"}, {"train_config": recipe / "exp/intent/config.yaml"}
    config = yaml.safe_load((recipe / "exp/intent/config.yaml").read_text())
    stats = Path(config["normalize_conf"]["stats_file"])
    (tmp_path / "c").mkdir()
    config = {**config, "acoustic_exp": None, "output_dir": None, "config": None}
    (tmp_path / "c/config.yaml").write_text(yaml.safe_dump(config))
    write_pack(tmp_path / "m.zip", files[0], {"train_config": tmp_path / "c/config.yaml"}, [stats])
    assert from_pretrained(tmp_path / "m.zip")(x) == expected
    with pytest.raises(ExperimentError, match="decoding: a classifier of intents has no use for it"):
        from_pretrained(recipe / "exp/intent", decoding={"search": "beam"})


def test_answers_are_the_softmax_of_each_slot(recipe):
    classifier = IntentClassifier.from_pretrained(recipe / "exp/intent")
    x = samples(recipe, "utt2")
    found = classifier(x)
    with torch.no_grad():
        scores = classifier.model.logits(torch.from_numpy(x)[None], torch.tensor([len(x)]))[0].double()
    assert list(found) == ["intent", "room"]
    for slot, ids in (("intent", [0, 1]), ("room", [2, 3])):
        odds = np.exp(scores[ids].numpy())
        assert found[slot][0] == TOKENS[ids[int(odds.argmax())]].split("=")[1]
        assert found[slot][1] == pytest.approx(odds.max() / odds.sum(), rel=1e-4)
    together = classifier.batch([samples(recipe, "utt1"), x])
    assert together[1]["intent"][1] == pytest.approx(found["intent"][1], rel=1e-4)


def test_a_folder_of_audio_and_one_of_frames(recipe, ears, tmp_path):
    exp, data, frames = recipe / "exp/intent", recipe / "data", tmp_path / "frames"
    options = ["--exp", str(ears), "--slow_rate", "2", "--data_dir", str(data), "--output_dir", str(frames)]
    assert acoustic_frames.main(options) == 0
    heard, read = tmp_path / "heard", tmp_path / "read"
    assert main(["--exp", str(exp), "--data_dir", str(data), str(frames), "--output_dir", str(heard), str(read)]) == 0
    classifier = IntentClassifier.from_pretrained(exp)
    for utt in ("utt1", "utt2"):
        found = classifier(samples(recipe, utt))
        assert read_table(heard / "label")[utt] == " ".join(f"{slot}={value}" for slot, (value, _) in found.items())
        numbers = [float(x) for x in read_table(heard / "probability")[utt].split()]
        assert numbers == pytest.approx([p for _, p in found.values()], abs=1e-4)
    assert read_table(heard / "label") == read_table(read / "label")
    one, other = (read_table(folder / "probability") for folder in (heard, read))
    for utt in one:
        assert [float(x) for x in one[utt].split()] == pytest.approx([float(x) for x in other[utt].split()], abs=2e-4)


def test_frames_of_other_ears(recipe, ears, tiny_experiment, tmp_path, capsys):
    """Of the same width, so that nothing else would tell."""
    exp, data = str(recipe / "exp/intent"), str(recipe / "data")
    others = tiny_experiment("other_ears_of_intents", seed=2)
    for name, whose, rate in (("others", others, "2"), ("slower", ears, "3")):
        options = ["--exp", str(whose), "--slow_rate", rate, "--data_dir", data, "--output_dir", str(tmp_path / name)]
        assert acoustic_frames.main(options) == 0
        assert main(["--exp", exp, "--data_dir", str(tmp_path / name), "--output_dir", str(tmp_path / "out")]) == 1
        what = "another recogniser" if name == "others" else "a slow_rate of 3"
        assert f"{name}: frames of {what}: take them again" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    # Nor is a classifier trained on them.
    table = ["--train_data_path_and_name_and_type", f"{tmp_path / 'others'}/frames.scp,speech,kaldi_ark"]
    config = yaml.safe_load((recipe / "exp/intent/conf.yaml").read_text())
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(config))
    args = KDIntentTask.get_parser().parse_args(
        ["--config", str(tmp_path / "conf.yaml"), *table, "--output_dir", str(tmp_path / "exp")]
    )
    with pytest.raises(ConfigError, match="others: frames of another recogniser"):
        KDIntentTask.build_model(args)


def test_many_kinds_of_samples(recipe):
    classifier = IntentClassifier.from_pretrained(recipe / "exp/intent")
    x = samples(recipe, "utt1")
    (expected,) = classifier.batch([x])
    for same in (x.astype(np.float64), torch.from_numpy(x).double(), x.tolist()):
        assert classifier.batch([same])[0] == expected
    whole = classifier.batch([(x * 32768).round().astype(np.int16)])[0]
    assert whole["intent"][1] == pytest.approx(expected["intent"][1], abs=1e-3)
    assert classifier.batch([]) == []
    frames, _ = classifier.model.encode(torch.from_numpy(x)[None], torch.tensor([len(x)]))
    assert classifier.batch([frames[0].numpy().astype(np.float64)])[0]["room"][0] == expected["room"][0]


def test_files_and_standard_input(recipe, capsys, monkeypatch):
    exp, wav = str(recipe / "exp/intent"), str(recipe / "data/utt1.wav")
    assert main(["--exp", exp, wav]) == 0
    shown = capsys.readouterr().out.strip()
    (intent, probability), (room, _) = IntentClassifier.from_pretrained(exp)(samples(recipe, "utt1")).values()
    assert shown.startswith(f"{wav} intent={intent} ({probability:.0%}) room={room} (")
    raw = (samples(recipe, "utt1") * 32768).astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", type("In", (), {"buffer": io.BufferedReader(io.BytesIO(raw))}))
    assert main(["--exp", exp, "-"]) == 0
    assert capsys.readouterr().out.strip() == shown.replace(wav, "-")


def test_faults(recipe, capsys, tmp_path):
    exp = str(recipe / "exp/intent")
    assert main(["--exp", exp, str(tmp_path / "none.wav")]) == 1
    assert "none.wav" in capsys.readouterr().err
    soundfile.write(tmp_path / "two.wav", np.random.default_rng(0).normal(0, 0.1, (16000, 2)), 16000)
    assert main(["--exp", exp, str(tmp_path / "two.wav")]) == 1
    assert f"{tmp_path}/two.wav: 2 channels: choose one with --ref_channel 0" in capsys.readouterr().err
    assert main(["--exp", exp, "--ref_channel", "1", str(tmp_path / "two.wav")]) == 0
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    capsys.readouterr()
    assert main(["--exp", exp, str(tmp_path / "silent.wav")]) == 0
    assert capsys.readouterr().out.strip() == f"{tmp_path}/silent.wav: no sound"
    soundfile.write(tmp_path / "click.wav", np.full(300, 0.1), 16000)
    assert main(["--exp", exp, str(tmp_path / "click.wav")]) == 1
    assert (
        f"{tmp_path}/click.wav: 19 ms of sound, of which nothing can be told: record at least"
        in capsys.readouterr().err
    )
    with pytest.raises(ConfigError, match="frames of 7 values; this classifier's recogniser gives 16"):
        IntentClassifier.from_pretrained(exp)(np.zeros((5, 7), dtype=np.float32))
    assert main(["--exp", str(tmp_path), "a.wav"]) == 1
    assert "config.yaml: not found" in capsys.readouterr().err
    for wrong in ([], ["a.wav", "--data_dir", "x"], ["--data_dir", "x"]):
        with pytest.raises(SystemExit):
            main(["--exp", exp, *wrong])
