"""A training that was stopped anywhere and goes on is the training that was not stopped: same losses, same bits."""

import logging
import os
import random
import re
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from espnet2_kd.tasks.asr import KDASRTask
from espnet2_kd.tasks.interruption import INTERRUPTED
from espnet2_kd.tasks.training_state import STATE, read_state

PLAIN = {"teacher": None, "teacher_conf": {}, "kd_terms": []}
NUM_BATCHES, NUM_EPOCHS = 6, 2


class Killed(BaseException):
    """Nothing is saved on its account."""


def raise_killed():
    raise Killed


@pytest.fixture(scope="module")
def config(tiny_experiment, write_student, training_tables, training_options, tmp_path_factory):
    """Function: options -> path of a student's config with dropout."""
    teacher = tiny_experiment("asr_resuming_teacher", encoder_conf={}, seed=2)
    folder = tmp_path_factory.mktemp("configs")

    def write(**options):
        path = folder / f"{len(list(folder.iterdir()))}.yaml"
        return write_student(path, teacher, **training_options(training_tables, max_epoch=NUM_EPOCHS, **options))

    return write


def run(path, folder, stop=None, at=None, training=True, more=()):
    """Train in `folder`; `stop` is called in the at-th forward pass, counted from 1, of training or of validation."""
    seen = []

    class Stopping(KDASRTask):
        @classmethod
        def build_model(cls, args):
            model = KDASRTask.build_model(args)
            for module in model.encoder.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.1

            def count(module, *_):
                if module.training == training:
                    seen.append(None)
                    if len(seen) == at:
                        stop()

            model.register_forward_pre_hook(count)
            return model

    Stopping.main(cmd=["--config", str(path), "--output_dir", str(folder), *more])


def interrupt(number):
    return lambda: os.kill(os.getpid(), number)


@contextmanager
def logged():
    """The messages of the log."""
    messages = []

    class Keep(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    root, handler = logging.getLogger(), Keep()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def losses(messages):
    """What was logged of every batch and of every epoch, without what a clock measures."""
    lines = [line for line in messages if re.search("epoch:train:|epoch results", line)]
    return [re.sub(r"\w*time=[^,]+", "", line) for line in lines]


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def require_same(straight: Path, stopped: Path):
    states = [read_state(folder / STATE, "cpu") for folder in (straight, stopped)]
    for part in ("model", "optimizers", "schedulers"):
        assert same(states[0][part], states[1][part]), part
    files = [sorted(path.name for path in folder.glob("*.pth")) for folder in (straight, stopped)]
    assert set(files[0]) <= set(files[1])  # a stopped one keeps a state more
    for name in files[0]:
        if "checkpoint" not in name:
            assert same(*(torch.load(folder / name) for folder in (straight, stopped))), name
            if (straight / name).is_symlink():
                assert os.readlink(straight / name) == os.readlink(stopped / name)


# Two readers: ESPnet2 seeds them by their number, and each reads half of the batches.
CASES = {
    "plain": {**PLAIN, "num_workers": 2, "accum_grad": 2, "noise_scp": "noise.scp", "noise_apply_prob": 0.7},
    "taught": {"num_workers": 0, "unlabelled_ratio": 1.0},
}


@pytest.fixture(scope="module", params=CASES)
def straight(request, config, training_tables, tmp_path_factory):
    """A training that nobody stops: its config, its folder, what it logged."""
    options = dict(CASES[request.param])
    if "noise_scp" in options:
        options["noise_scp"] = str(training_tables / options["noise_scp"])
    path, folder = config(**options), tmp_path_factory.mktemp("straight")
    with logged() as messages:
        run(path, folder)
    found = losses(messages)
    assert len(found) == NUM_EPOCHS * (NUM_BATCHES + 1)
    return path, folder, found


def test_a_signal_at_any_batch(straight, tmp_path):
    path, folder, expected = straight
    number = random.choice([signal.SIGTERM, signal.SIGUSR1])
    at = random.randint(1, NUM_BATCHES * NUM_EPOCHS - 2)
    with logged() as messages:
        with pytest.raises(SystemExit) as ended:
            run(path, tmp_path, interrupt(number), at)
        assert ended.value.code == INTERRUPTED == 85
        assert f"{number.name}: ends here with exit code 85" in "\n".join(messages)
        state = read_state(tmp_path / STATE, "cpu")
        done = state["within"]["num_batches"] + NUM_BATCHES * state["reporter"]["epoch"]
        assert at <= done <= at + 1  # the update that was being computed, of one or two batches
        run(path, tmp_path)
    assert losses(messages) == expected, f"stopped at {at}"
    require_same(folder, tmp_path)


def test_killed_at_any_batch(straight, tmp_path):
    """What was done since the last saving is done again, and is what it was."""
    path, folder, expected = straight
    at = random.randint(4, NUM_BATCHES * NUM_EPOCHS)
    with pytest.raises(Killed):
        run(path, tmp_path, raise_killed, at, more=("--save_every_updates", "1"))
    with logged() as messages:
        run(path, tmp_path)
    found = losses(messages)
    assert found == expected[-len(found) :], f"killed at {at}"
    assert "Training goes on after" in "\n".join(messages)
    require_same(folder, tmp_path)


def test_a_signal_in_validation(straight, tmp_path):
    path, folder, expected = straight
    with logged() as messages:
        with pytest.raises(SystemExit, match="85"):
            run(path, tmp_path, interrupt(signal.SIGTERM), 2, training=False)
        run(path, tmp_path)
    assert "State saved after batch 6 of epoch 1" in messages
    assert losses(messages) == expected
    require_same(folder, tmp_path)


def test_a_damaged_state_costs_one_interval(straight, tmp_path):
    path, folder, expected = straight
    with pytest.raises(Killed):
        run(path, tmp_path, raise_killed, 11, more=("--save_every_updates", "1"))
    (tmp_path / STATE).write_bytes(b"half")
    with logged() as messages:
        run(path, tmp_path)
    assert "the state before it is taken" in "\n".join(messages)
    found = losses(messages)
    assert found == expected[-len(found) :]
    require_same(folder, tmp_path)
