"""The mini corpus: what is said, how it sounds, and that it comes out the same every time."""

import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
SIZES = ("--num_train", 36, "--num_valid", 8, "--num_test", 10)
SPLITS = ("train", "valid", "test")


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_expand(local_module):
    expand = local_module("mini", "grammar").expand
    assert sorted(expand("[please] (turn|switch) off")) == [
        "please switch off",
        "please turn off",
        "switch off",
        "turn off",
    ]
    assert list(expand("add {amount} eggs"))[:2] == ["add two eggs", "add three eggs"]


@pytest.mark.parametrize("seed", [1, 2])
def test_sentences(local_module, seed):
    pools = local_module("mini", "grammar").sentence_pools(seed)
    said = {split: [text for pool in pools[split].values() for text in pool] for split in SPLITS}
    for split in SPLITS:
        assert len(pools[split]) == 16
        assert min(len(pool) for pool in pools[split].values()) >= 3
        assert all(re.fullmatch(r"[a-z]+( [a-z]+){2,8}", text) for text in said[split])
    for one, other in [("train", "valid"), ("train", "test"), ("valid", "test")]:
        assert not set(said[one]) & set(said[other])
    words = {split: {word for text in said[split] for word in text.split()} for split in SPLITS}
    assert 120 <= len(words["train"]) <= 180
    assert words["valid"] | words["test"] <= words["train"]
    assert 0.75 < len(said["train"]) / sum(map(len, said.values())) < 0.85


def test_plan_of_the_default_size(local_module):
    make_plan = local_module("mini", "plan").plan
    plan = make_plan({"train": 2600, "valid": 200, "test": 300}, seed=1)
    by_split = {split: [u for u in plan if u.split == split] for split in SPLITS}
    assert {split: len(part) for split, part in by_split.items()} == {"train": 2600, "valid": 200, "test": 300}
    assert len({u.utt_id for u in plan}) == len({u.text for u in plan}) == 3100
    throats = {split: {u.voice.split("+")[1] for u in part} for split, part in by_split.items()}
    assert sum(map(len, throats.values())) == len(set.union(*throats.values()))
    assert {u.voice.split("+")[0] for u in by_split["test"]} == {u.voice.split("+")[0] for u in by_split["train"]}
    counts = [sum(u.intent == intent for u in by_split["train"]) for intent in {u.intent for u in plan}]
    assert len(counts) == 16 and min(counts) >= 50
    # Adding training utterances must not change what is tested.
    fewer = make_plan({"train": 100, "valid": 200, "test": 300}, seed=1)
    assert [u for u in fewer if u.split != "train"] == [u for u in plan if u.split != "train"]


@needs_espeak
def test_data_stage(recipe):
    mini = recipe("mini")
    done = mini.data(*SIZES, "--nj", 2)
    assert done.returncode == 0, done.stderr
    assert mini.sets() == ["test", "train", "valid"]
    sizes = {"train": 36, "valid": 8, "test": 10}
    with (mini.path / "downloads/mini/corpus.tsv").open() as stream:
        rows = {row["utt_id"]: row for row in csv.DictReader(stream, delimiter="\t")}
    texts, speakers, excess = {}, {}, []
    for split, size in sizes.items():
        text, label = mini.table(f"{split}/text"), mini.table(f"{split}/label")
        utt2spk, wav = mini.table(f"{split}/utt2spk"), mini.table(f"{split}/wav.scp")
        assert len(text) == size and set(text) == set(label) == set(utt2spk) == set(wav)
        assert list(text) == sorted(text, key=str.encode)
        assert mini.table(f"{split}/transcript") == text
        texts[split], speakers[split] = set(text.values()), set(utt2spk.values())
        for utt, path in wav.items():
            samples, fs = soundfile.read(mini.path / path)
            row = rows[utt]
            assert (fs, samples.ndim, row["split"]) == (16000, 1, split)
            assert len(samples) / fs == pytest.approx(float(row["dur"]), abs=1e-3)
            assert 0.8 < len(samples) / fs < 4.5 and utt.startswith(utt2spk[utt] + "_")
            assert np.max(np.abs(samples)) <= 0.991
            assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(float(row["rms_db"]), abs=2.0)
            before, after = (int(float(row[side]) * fs) for side in ("before", "after"))
            pause, voice = samples[: before - 80], samples[before:-after]
            measured = 10 * np.log10(np.mean(voice**2) / np.mean(pause**2))
            excess.append(measured - float(row["snr_db"]))
    assert abs(np.mean(excess)) < 1.0 and np.max(np.abs(excess)) < 6.0
    for one, other in [("train", "valid"), ("train", "test"), ("valid", "test")]:
        assert not texts[one] & texts[other] and not speakers[one] & speakers[other]


@needs_espeak
def test_same_bytes_after_an_interruption(recipe):
    mini = recipe("mini")
    assert mini.data(*SIZES, "--nj", 2).returncode == 0
    corpus = mini.path / "downloads/mini"
    first, data = digests(corpus), digests(mini.path / "data")
    assert "already there" in mini.data(*SIZES).stdout
    files = sorted(corpus.glob("audio/*/*/*.flac"))
    times = {path: path.stat().st_mtime_ns for path in files[3:]}
    for path in files[:3]:
        path.unlink()
    (files[5].parent / f".{files[5].name}.99.tmp").write_bytes(b"cut off")
    (corpus / "info.json").unlink()
    assert mini.data(*SIZES, "--nj", 1).returncode == 0
    assert digests(corpus) == first and digests(mini.path / "data") == data
    assert times == {path: path.stat().st_mtime_ns for path in files[3:]}
    assert mini.data(*SIZES, "--seed", 2).returncode == 0
    assert not set(digests(corpus / "audio").values()) & set(first.values())


def prepare(mini, path):
    return subprocess.run(
        [sys.executable, "local/prepare.py", *map(str, SIZES)],
        cwd=mini.path,
        env={**os.environ, "PATH": str(path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_missing_espeak_is_said_at_once(recipe, tmp_path):
    mini = recipe("mini")
    done = prepare(mini, tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr == "espeak-ng: not found: install it, for example: apt-get install espeak-ng\n"
    assert not (mini.path / "data").exists() and not (mini.path / "downloads").exists()


def test_missing_voices_are_named(recipe, tmp_path):
    fake = tmp_path / "bin" / "espeak-ng"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\ncase $1 in\n--version) echo 'eSpeak NG text-to-speech: 1.40  Data at: x';;\n"
        "*) echo 'Pty Language Age/Gender VoiceName File Other'; echo ' 5 en-us --/M male2 !v/m2';;\nesac\n"
    )
    fake.chmod(0o755)
    mini = recipe("mini")
    done = prepare(mini, fake.parent)
    assert done.returncode == 1 and done.stderr.startswith("espeak-ng 1.40: lacks the voices en-gb ")
    assert " m1 " in done.stderr and " m2 " not in done.stderr and "en-us" not in done.stderr
    assert not (mini.path / "data").exists()
