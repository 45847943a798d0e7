"""Two processes that share every batch do what one does with it, also when one of them was told to stop on the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet2_kd.tasks.training_state import STATE, read_state

SCRIPT = Path(__file__).with_name("two_processes.py")
TIMEOUT = 600


@pytest.fixture(scope="module")
def config(tiny_experiment, write_student, training_tables, training_options, tmp_path_factory):
    """A distilled student without random numbers, which hears unlabelled speech too."""
    teacher = tiny_experiment("asr_two_processes_teacher", encoder_conf={}, seed=2)
    options = training_options(training_tables, batch_size=4, unlabelled_ratio=1.0, max_epoch=2)
    options |= {"specaug": None, "specaug_conf": {}, "optim": "sgd", "optim_conf": {"lr": 0.1}, "scheduler": None}
    return write_student(tmp_path_factory.mktemp("config") / "student.yaml", teacher, **options)


def start(folder, config, rank=None, at=None, port=0):
    """As `torchrun` would start it, or alone."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    if rank is not None:
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    command = [sys.executable, SCRIPT, folder, config, *([] if at is None else [str(at)])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)


def finish(jobs, code):
    outputs = [job.communicate(timeout=TIMEOUT)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [code] * len(jobs), "\n".join(outputs)[-5000:]
    return outputs


def free_port():
    from espnet2.train.distributed_utils import free_port

    return free_port()


def batches(folder, rank):
    return [json.loads(line) for line in (folder / f"seen.{rank}").read_text().splitlines()]


def test_batches_losses_and_weights_are_those_of_one(config, tmp_path):
    alone, two = tmp_path / "alone", tmp_path / "two"
    alone.mkdir()
    two.mkdir()
    finish([start(alone, config)], 0)
    port = free_port()
    # The second process alone is told to stop, in the middle of epoch 2.
    outputs = finish([start(two, config, 0, None, port), start(two, config, 1, 5, port)], 85)
    assert "ends here with exit code 85" in outputs[0]
    assert read_state(two / STATE, "cpu")["within"]["num_batches"] == 2
    port = free_port()
    outputs = finish([start(two, config, rank, None, port) for rank in range(2)], 0)
    assert ["2epoch results" in output for output in outputs] == [True, False]

    joint, shares = batches(alone, 0), [batches(two, rank) for rank in range(2)]
    assert len(joint) == len(shares[0]) == len(shares[1]) == 6
    for whole, one, other in zip(joint, *shares, strict=True):
        assert whole == [sorted(a + b) for a, b in zip(one, other, strict=True)]
        assert all(abs(len(a) - len(b)) <= 1 for a, b in zip(one, other, strict=True))
    states = [read_state(folder / STATE, "cpu") for folder in (alone, two)]
    for epoch in (1, 2):
        for part in ("train", "valid"):
            stats = [state["reporter"]["stats"][epoch][part] for state in states]
            for name in ("loss", "loss_task", "loss_kd_l2"):
                assert stats[1][name] == pytest.approx(stats[0][name], rel=1e-4), (epoch, part, name)
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], value, rtol=1e-3, atol=1e-5, msg=name)
