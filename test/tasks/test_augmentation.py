"""What is random in an utterance's preparation, and when it begins."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from espnet2.train.preprocessor import CommonPreprocessor

from espnet2_kd.tasks.augmentation import SeededPreprocess

SPEECH = 0.3 * np.sin(np.arange(16000) / 10)


@pytest.fixture
def noisy(tmp_path):
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(1).standard_normal(16000), 16000)
    (tmp_path / "noise.scp").write_text(f"noise {tmp_path}/noise.wav\n")
    return CommonPreprocessor(
        train=True,
        noise_scp=str(tmp_path / "noise.scp"),
        noise_apply_prob=1.0,
        noise_db_range="0_20",
        force_single_channel=True,
    )


def heard(process, epoch, monkeypatch, utt="utt"):
    monkeypatch.setattr(SeededPreprocess, "epoch", epoch)
    return process(utt, {"speech": SPEECH})["speech"]


def test_first_epochs_are_quiet(noisy, monkeypatch):
    always, process = SeededPreprocess(noisy, seed=3), SeededPreprocess(noisy, seed=3, quiet_epochs=2)
    for epoch in (1, 2):
        np.testing.assert_array_equal(heard(process, epoch, monkeypatch), SPEECH)
    later = heard(process, 3, monkeypatch)
    assert np.abs(later - SPEECH).max() > 0.01
    np.testing.assert_array_equal(later, heard(always, 3, monkeypatch))


def test_noise_depends_on_seed_epoch_and_utterance_alone(noisy, monkeypatch):
    process = SeededPreprocess(noisy, seed=3)
    once = heard(process, 1, monkeypatch)
    others = [heard(process, 2, monkeypatch), heard(process, 1, monkeypatch, "other")]
    others.append(heard(SeededPreprocess(noisy, seed=4), 1, monkeypatch))
    assert all(np.abs(other - once).max() > 1e-3 for other in others)
    np.random.seed(11)
    before = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(heard(process, 1, monkeypatch), once)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_preparation_without_noise_is_left_alone(monkeypatch):
    process = SeededPreprocess(lambda utt, data: data, seed=1, quiet_epochs=5)
    np.testing.assert_array_equal(heard(process, 1, monkeypatch), SPEECH)
