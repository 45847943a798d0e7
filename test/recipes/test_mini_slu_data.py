"""The intents of the mini corpus: the audio of mini/asr1, byte by byte, with labels."""

import hashlib
import shutil

import pytest

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
SIZES = ("--num_train", 20, "--num_valid", 4, "--num_test", 5, "--nj", 2)


def sounds(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.flac")}


def test_same_audio_as_the_sibling_with_intents(recipe, local_module):
    slu, asr = recipe("mini", "slu1"), recipe("mini")
    for mini in (slu, asr):
        done = mini.data(*SIZES)
        assert done.returncode == 0, done.stderr
    assert slu.sets() == ["test", "train", "valid"]
    heard = sounds(slu.path / "downloads")
    assert len(heard) == 29 and heard == sounds(asr.path / "downloads")
    intents = set(local_module("mini", "grammar").TEMPLATES)
    for name, size in {"train": 20, "valid": 4, "test": 5}.items():
        label, text = slu.table(f"{name}/label"), slu.table(f"{name}/text")
        assert len(label) == size and set(label) == set(text) == set(slu.table(f"{name}/wav.scp"))
        assert text == asr.table(f"{name}/text")
        assert all(value.removeprefix("intent=") in intents and value.startswith("intent=") for value in label.values())


def test_tiny_version_and_wrong_options(recipe):
    slu = recipe("mini", "slu1")
    assert slu.data("--num_train", 0).returncode == 2
    done = slu.data("--synthetic", "true")
    assert done.returncode == 0, done.stderr
    assert {name: len(slu.table(f"{name}/label")) for name in slu.sets()} == {"train": 48, "valid": 12, "test": 12}
