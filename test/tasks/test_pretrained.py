"""One line for every student: transducer, CIF recogniser, classifier of intents."""

import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet2_kd import from_pretrained
from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.load import ExperimentError
from espnet2_kd.asr.pack_writer import write_pack
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.kd.registry import ConfigError

NAME = "valid.loss_transducer.ave.pth"
SAMPLES = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1


@pytest.fixture(scope="module")
def exp(tiny_experiment):
    return tiny_experiment("asr_pretrained")


@pytest.fixture(scope="module")
def expected(exp):
    recognizer = Recognizer.load(exp, NAME, DecodeConfig())
    text = recognizer.text(recognizer.decode([SAMPLES])[0][0])
    assert len(text) > 3
    return text


@pytest.fixture
def recipe(exp, tmp_path, monkeypatch):
    """A copy of the experiment in `exp`, below the working directory."""
    for name in (f"exp/{exp.name}", "exp/asr_stats"):
        shutil.copytree(exp.parents[1] / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_package_itself_stays_light():
    code = "import sys, espnet2_kd; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(dir(espnet2_kd))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    with pytest.raises(AttributeError, match="from_pretraind"):
        import espnet2_kd

        espnet2_kd.from_pretraind  # noqa: B018


def test_audio_of_all_kinds(exp, expected, tmp_path):
    recognizer = from_pretrained(exp)
    assert recognizer(SAMPLES) == recognizer(torch.from_numpy(SAMPLES)) == recognizer((SAMPLES, 16000)) == expected
    soundfile.write(tmp_path / "x.wav", SAMPLES, 16000, subtype="FLOAT")
    assert recognizer(tmp_path / "x.wav") == recognizer(str(tmp_path / "x.wav")) == expected
    whole = (SAMPLES * 32768).round().astype(np.int16)
    assert recognizer((whole, 16000)) == recognizer(whole.astype(np.float32) / 32768)
    soundfile.write(tmp_path / "8k.wav", SAMPLES[::2], 8000, subtype="FLOAT")
    assert recognizer((SAMPLES[::2], 8000)) == recognizer(tmp_path / "8k.wav")
    with pytest.raises(ValueError, match="one channel"):
        recognizer((np.zeros((100, 2)), 16000))
    with pytest.raises(ValueError, match="0 Hz"):
        recognizer((SAMPLES, 0))


def test_a_session_ends_with_what_the_whole_gives(exp, expected):
    recognizer = from_pretrained(exp)
    texts = []
    with recognizer.stream() as session:
        assert session.text == ""
        texts += [session.accept(piece) for piece in np.array_split(SAMPLES, 13)]
    assert session.text == session.finish() == expected
    assert 2 < len(set(texts)) and all(later.startswith(text) for text, later in itertools.pairwise(texts))
    assert " ".join(word.text for word in session.words) == expected
    with pytest.raises(ValueError, match="after the end"):
        session.accept(SAMPLES[:10])
    other = recognizer.stream()
    assert other.accept(SAMPLES[:8000]) in texts or other.text == texts[6]


def test_experiment_pack_unpacked_and_their_decoding(recipe, exp, expected):
    here = recipe / f"exp/{exp.name}"
    config = yaml.safe_load((here / "config.yaml").read_text())
    (here / "config.yaml").write_text(
        yaml.safe_dump({**config, "best_model_criterion": [["valid", "loss_transducer", "min"]]})
    )
    (here / "valid.acc.ave.pth").write_bytes(b"of another criterion")
    files = {"asr_model_file": here / NAME}, {"asr_train_config": here / "config.yaml"}
    stats = [recipe / "exp/asr_stats/train/feats_stats.npz"]
    write_pack("plain.zip", *files, stats)
    write_pack("beam.zip", *files, stats, texts={"decode.yaml": "search: beam\nbeam_size: 3\n"})
    (recipe / "elsewhere").mkdir()
    for name in ("plain.zip", "beam.zip"):
        shutil.move(name, recipe / "elsewhere" / name)
    assert from_pretrained(f"exp/{exp.name}")(SAMPLES) == expected
    assert from_pretrained("elsewhere/plain.zip")(SAMPLES) == expected
    (unpacked,) = (recipe / "elsewhere/plain.zip.unpacked").iterdir()
    assert from_pretrained(unpacked)(SAMPLES) == expected
    beam = from_pretrained("elsewhere/beam.zip")
    assert type(beam.search).__name__ == "BeamSearch" and beam.search.beam_size == 3
    assert type(from_pretrained("elsewhere/beam.zip", decoding={}).search).__name__ == "GreedySearch"
    with pytest.raises(ConfigError, match="beam_siz: unknown setting: .*beam_size"):
        from_pretrained("elsewhere/beam.zip", decoding={"beam_siz": 2})
    (here / "decode.yaml").write_text("search: beam\nbeam_size: 2\nlm: exp/lm_elsewhere\n")
    scored = from_pretrained(f"exp/{exp.name}")
    assert type(scored.search).__name__ == "BeamSearch" and scored.search.beam_size == 2


def test_a_cif_recogniser(cif_experiment):
    recognizer = from_pretrained(cif_experiment)
    text = recognizer(SAMPLES)
    assert len(text) > 3
    with recognizer.stream() as session:
        for piece in np.array_split(SAMPLES, 7):
            session.accept(piece)
    assert session.text == text


def test_what_cannot_be_loaded_is_said(recipe, exp, monkeypatch):
    for name, words in (
        ("exp/nothing", "no such file or directory"),
        ("exp/asr_stats", "neither an experiment nor a packed model"),
    ):
        with pytest.raises(ExperimentError, match=words):
            from_pretrained(recipe / name)
    with pytest.raises(ExperimentError, match="revision main: only models on the hub"):
        from_pretrained(recipe / f"exp/{exp.name}", revision="main")
    (recipe / f"exp/{exp.name}/{NAME}").unlink()
    with pytest.raises(ExperimentError, match=r"no valid.\*.ave.pth: has its training come to its end"):
        from_pretrained(recipe / f"exp/{exp.name}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ExperimentError, match="some/model: no such file or directory, and not fetched .* cannot be reached"
    ):
        from_pretrained("some/model")
