"""Weights that are programs: executed only where that is asked for, and then named."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.training_state import STATE, require_weights, resume


class Program:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_program_that_is_trusted_is_named_with_its_hash(tmp_path, capsys):
    path = tmp_path / "program.pth"
    torch.save({"encoder.a": Program()}, path)
    require_weights(f"{path}:encoder", trusted=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in capsys.readouterr().err
    torch.save({"encoder.a": torch.ones(2)}, path)
    require_weights(str(path), trusted=True)
    assert capsys.readouterr().err == ""


def test_an_epoch_that_is_a_program_is_not_averaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"number": 1}, tmp_path / STATE)
    torch.save({"a": Program()}, tmp_path / "1epoch.pth")
    with pytest.raises(ConfigError, match=r"1epoch.pth: holds more than weights"):
        resume(tmp_path / STATE, None, None, [], [], None)
    assert not Path("executed").exists()
