"""The example client, against a demo that runs as a user starts it."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.tasks.intent_classifier import IntentClassifier

CLIENT = Path(__file__).parents[2] / "tools/live_client.py"


def run(*options):
    done = subprocess.run(
        [sys.executable, CLIENT, *map(str, options)], check=False, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("options", [[], ["--at_once"]])
def test_a_file(demo, student, teacher, intents, noise, tmp_path, options):
    samples = noise(30000)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    status, lines, error = run(tmp_path / "a.wav", "--url", f"{demo}listen", *options)
    assert status == 0, error
    last = dict(line.split(" s  ")[1].split(": ") for line in lines if " ...: " not in line)
    for name, exp in (("teacher", teacher), ("student", student)):
        recognizer = Recognizer.load(exp, "valid.loss_transducer.ave.pth", DecodeConfig())
        assert last[name] == recognizer.text(recognizer.decode([samples])[0][0]) != ""
    answers = IntentClassifier.from_pretrained(intents, "valid.acc.best.pth")(samples)
    assert [part.split()[0] for part in last["intents"].split(") ")] == [f"{s}={v}" for s, (v, _) in answers.items()]
    assert any("student ...: " in line and "(" in line for line in lines)


def test_no_server(noise, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    status, lines, error = run(tmp_path / "a.wav", "--url", "http://127.0.0.1:9/listen")
    assert status == 1 and not lines and error.count("\n") == 1
