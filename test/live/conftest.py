"""Tiny random models that listen, and sound that makes them talk."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

CLASSES = ["intent=off", "intent=on", "room=hall", "room=none", "<unk>"]


@pytest.fixture(scope="session")
def noise():
    """Function that makes float32 bursts of so many samples in [-1, 1]."""

    def make(num, seed=0):
        samples = np.random.default_rng(seed).standard_normal(num) * 0.1 * (1.0 + np.sin(np.arange(num) / 700.0))
        # As 16 bits have it.
        return (np.rint(samples * 32768).clip(-32768, 32767) / 32768).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def student(tiny_experiment):
    return tiny_experiment("live_student", token_type="word")


@pytest.fixture(scope="session")
def teacher(tiny_experiment):
    return tiny_experiment("live_teacher", encoder_conf={}, token_type="word", seed=2)


@pytest.fixture(scope="session")
def intents(student, make_classifier, tmp_path_factory):
    """A random classifier on the student's frames."""
    folder = tmp_path_factory.mktemp("intents")
    make_classifier(folder, student, CLASSES, "valid.acc.best.pth")
    return folder


@pytest.fixture(scope="session")
def demo(student, teacher, intents):
    """Address of a demo of all three that runs as a user starts it."""
    options = ["--model", teacher, student, intents, "--name", "teacher", "student", "intents", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "espnet2_kd.bin.demo", *map(str, options), "--guess_ms", "500"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("open "):
            break
    else:
        pytest.fail("".join(lines) or "the demo ended")
    yield line.split()[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
