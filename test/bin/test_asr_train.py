"""What the training program sets up around ESPnet2's task."""

import pytest
import torch

from espnet2_kd.asr.load import ExperimentError
from espnet2_kd.asr.model_pack import PackError
from espnet2_kd.bin import asr_train
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.asr import KDASRTask


def smallest_product():
    return (torch.full((64,), 1e-30) * 1e-10).max().item()


@pytest.mark.parametrize("error", [ConfigError, ExperimentError, PackError])
def test_what_the_user_can_mend_is_one_line(monkeypatch, tmp_path, caplog, error):
    def main(cmd):
        raise error("exp/nope: no such experiment directory")

    monkeypatch.setattr(KDASRTask, "main", main)
    try:
        with pytest.raises(SystemExit) as ended:
            asr_train.main(["--output_dir", str(tmp_path), "--dry_run", "true"])
    finally:
        torch.set_flush_denormal(False)
    assert ended.value.code == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "exp/nope: no such experiment directory"
    ]


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
