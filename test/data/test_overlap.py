"""What training and test sets share is named."""

from pathlib import Path

import pytest

from espnet2_kd.bin.data_dir import main
from espnet2_kd.data.data_dir import DataDir


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that writes a directory of {utterance: (speaker, recording)}."""
    monkeypatch.chdir(tmp_path)

    def call(name, utts, segments=None):
        tables = {
            "utt2spk": {utt: speaker for utt, (speaker, _) in utts.items()},
            "wav.scp": dict(utts.values()) if segments else {utt: path for utt, (_, path) in utts.items()},
            "text": dict.fromkeys(utts, "yes"),
        }
        if segments:
            tables["segments"] = segments
        DataDir(tmp_path / name, tables).write(tmp_path / name)

    return call


def validate(capsys, *names):
    status = main(["validate", "--no_wav", *names])
    return status, [line for line in capsys.readouterr().err.splitlines() if "problem(s)" not in line]


def test_sets_apart_have_no_problem(make, capsys):
    make("train", {"ann-1": ("ann", "a.wav"), "bob-1": ("bob", "b.wav")})
    make("test", {"cy-1": ("cy", "c.wav")})
    assert validate(capsys, "train", "test", "train") == (0, [])


def test_speakers_are_warned_of_and_recordings_refused(make, capsys):
    make("train", {f"{name}-1": (name, f"{name}.wav") for name in "abcdefg"})
    make("valid", {f"{name}-2": (name, f"{name}2.wav") for name in "bcdey"})
    make("test", {"x-1": ("x", "x.wav"), "x-2": ("x", "c.wav"), "x-3": ("x", "a.wav")})
    status, lines = validate(capsys, "train", "valid", "test")
    assert status == 1
    assert lines == [
        "valid/utt2spk:0: -: warning: 4 speaker(s) of train: b, c, d, ...: what is measured here says little of new speakers",
        "test/wav.scp:3: x-3: 2 recording(s) of train, this one is its a-1: keep each recording in one set",
    ]
    assert validate(capsys, "train", "valid")[0] == 0


def test_parts_of_one_recording_may_be_in_two_sets(make, capsys):
    make("train", {"a-1": ("a", "long.wav")}, {"a-1": "a 0 1"})
    make("test", {"b-1": ("b", "long.wav")}, {"b-1": "b 1 2"})
    assert validate(capsys, "train", "test") == (0, [])


def test_faults_of_all_sets_come_first(make, capsys):
    """What is broken cannot be compared."""
    for name in ("train", "valid", "test"):
        make(name, {"a-1": ("a", "a.wav")})
    for name in ("train", "test"):
        Path(name, "text").write_text("a-1\n")
    status, lines = validate(capsys, "train", "valid", "test")
    assert status == 1 and [line.split(": ")[0] for line in lines] == ["train/text:1", "test/text:1"]
