"""What the training program sets up around ESPnet2's task."""

import pytest
import torch

from espnet2_kd.bin import asr_train
from espnet2_kd.tasks.asr import KDASRTask


def smallest_product():
    return (torch.full((64,), 1e-30) * 1e-10).max().item()


def test_denormals_are_flushed_while_training(monkeypatch, tmp_path):
    # Asked here and not in a mark: the answer changes how the whole process computes.
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot")
    torch.set_flush_denormal(False)
    seen = []
    monkeypatch.setattr(KDASRTask, "main", lambda cmd: seen.append(smallest_product()))
    try:
        assert smallest_product() > 0
        asr_train.main(["--output_dir", str(tmp_path), "--dry_run", "true"])
    finally:
        torch.set_flush_denormal(False)
    assert seen == [0.0]
