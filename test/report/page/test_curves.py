"""Learning curves are what the trainings logged."""

import json

import pytest

from espnet2_kd.report.page.curves import read_curves

from .conftest import curve, train_log

TERMS = ["loss", "loss_task", "loss_kd_l4", "weight_kd_l4", "acc"]


def test_every_term_of_every_epoch(tmp_path):
    (tmp_path / "train.log").write_text(train_log(TERMS, seed=2))
    curves = read_curves(tmp_path)
    for part in ("train", "valid"):
        for term in TERMS:
            expected = {epoch: pytest.approx(curve(term, part, epoch, 2)) for epoch in (1, 2, 3)}
            assert getattr(curves, part)[term] == expected
    assert curves.terms == ["loss", "loss_task", "loss_kd_l4", "weight_kd_l4", "acc", "optim0_lr0"]
    assert curves.train["optim0_lr0"][1] == pytest.approx(5.9e-4) and "optim0_lr0" not in curves.valid
    # A value that is not finite is none, and times are not learnt.
    assert "wer_transducer" not in curves.valid and "time" not in curves.train
    assert (curves.num_epochs, curves.planned, curves.gpu_gb) == (3, 3, 1.5)


def test_a_training_in_parts(tmp_path):
    (tmp_path / "train.log.1").write_text(train_log(TERMS, seed=1, epochs=1, planned=9))
    (tmp_path / "train.log.2").write_text(train_log(TERMS, seed=3, epochs=2, planned=9))
    (tmp_path / "train.log.10").write_text("broken \udc80".encode("utf-8", "surrogateescape").decode("latin-1"))
    last = [line for line in train_log(TERMS, seed=2).splitlines() if "3epoch" in line or "3/3" in line]
    (tmp_path / "train.log").write_text("\n".join(last))
    loss = read_curves(tmp_path).train["loss"]
    assert loss == {
        epoch: pytest.approx(curve("loss", "train", epoch, seed)) for epoch, seed in ((1, 3), (2, 3), (3, 2))
    }


def test_a_text_classifier(tmp_path):
    epochs = [{"epoch": 1, "loss": 2.0, "valid_loss": 3.0, "valid_accuracy": 0.5, "seconds": 1.0}, {"loss": "x"}]
    (tmp_path / "train.json").write_text(json.dumps({"epochs": epochs}))
    curves = read_curves(tmp_path)
    assert (curves.train, curves.valid) == ({"loss": {1: 2.0}}, {"loss": {1: 3.0}, "acc": {1: 0.5}})


@pytest.mark.parametrize(
    "text", ["", "1epoch results: [train]", "{", "INFO: 1epoch results: [train] loss=1e999, x=.e-"]
)
def test_what_is_no_log(tmp_path, text):
    (tmp_path / "train.log").write_text(text)
    (tmp_path / "train.json").write_text(text)
    assert read_curves(tmp_path).num_epochs == 0
