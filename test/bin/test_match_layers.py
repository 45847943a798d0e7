"""match_layers on tiny experiments: a model compared with itself, a twin of another rate, and wrong input."""

import re

import numpy as np
import pytest
import soundfile
import yaml

from espnet2_kd.bin import match_layers


@pytest.fixture(scope="module")
def models(tiny_experiment):
    return tiny_experiment("asr_match_student"), tiny_experiment(
        "asr_match_teacher", encoder_conf={"num_blocks": 3}, seed=4
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    utts = [f"a-{n}" for n in range(6)]
    for n, utt in enumerate(utts):
        soundfile.write(folder / f"{utt}.wav", rng.standard_normal(9000 + 3000 * n) * 0.1, 16000)
    (folder / "wav.scp").write_text("".join(f"{utt} {folder}/{utt}.wav\n" for utt in utts))
    (folder / "utt2spk").write_text("".join(f"{utt} a\n" for utt in utts))
    (folder / "spk2utt").write_text(f"a {' '.join(utts)}\n")
    return folder


def run(student, teacher, data, out, *options):
    argv = ["--student_exp", student, "--teacher_exp", teacher, "--data_dir", data, "--output_dir", out, *options]
    return match_layers.main(list(map(str, argv)))


def similarities(out):
    head, *rows = [line.split("\t") for line in (out / "similarity.tsv").read_text().splitlines()]
    return head[1:], [row[0] for row in rows], np.array([row[1:] for row in rows], float)


def test_a_model_is_most_like_itself(models, data, tmp_path, capsys):
    student, _ = models
    assert run(student, student, data, tmp_path, "--num_taps", "2") == 0
    columns, rows, matrix = similarities(tmp_path)
    assert columns == rows == ["encoder.encoders.0", "encoder.encoders.1"]
    np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-4)
    assert 0 < matrix[0, 1] < 1 and matrix[0, 1] == pytest.approx(matrix[1, 0], abs=1e-3)
    taps = yaml.safe_load((tmp_path / "taps.yaml").read_text())
    assert taps == [{"student": name, "teacher": name} for name in rows]
    assert (tmp_path / "similarity.png").read_bytes()[:4] == b"\x89PNG"
    assert "similarity: 1.000" in capsys.readouterr().out


def test_batches_do_not_matter_and_seconds_are_drawn(models, data, tmp_path, capsys):
    for name, options in {"one": ("--batch_seconds", "0.1"), "all": ("--batch_seconds", "1000")}.items():
        assert run(*models, data, tmp_path / name, "--num_taps", "1", *options) == 0
    a, b = (similarities(tmp_path / name)[2] for name in ("one", "all"))
    assert a.shape == (2, 3)
    np.testing.assert_allclose(a, b, atol=2e-4)
    assert run(*models, data, tmp_path / "some", "--num_taps", "1", "--max_seconds", "1") == 0
    (drawn,) = re.findall(r"frames, (\d+) s", capsys.readouterr().out.splitlines()[-2])
    assert 1 <= int(drawn) <= 3  # of 6


def test_a_hugging_face_teacher_has_two_frames_for_one(models, data, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=6, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.HubertModel(config).save_pretrained(tmp_path / "hubert")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "hubert")
    assert run(models[0], tmp_path / "hubert", data, tmp_path / "out", "--teacher", "hf_speech", "--num_taps", "2") == 0
    columns, _, matrix = similarities(tmp_path / "out")
    assert columns[-1] == "encoder.layers.2" and matrix.shape == (2, 3) and (matrix > 0).all() and (matrix < 1).all()


def test_wrong_input_is_one_line(models, data, tmp_path, capsys):
    assert run(*models, data, tmp_path / "out", "--num_taps", "3") == 1
    assert "--num_taps 3: the student has 2 layers" in capsys.readouterr().err
    assert run(models[0], tmp_path / "none", data, tmp_path / "out") == 1
    assert "no such experiment directory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
