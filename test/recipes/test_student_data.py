"""The training set of a student of pseudo labels: everything people wrote, and what the teacher was sure of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from espnet2.samplers.num_elements_batch_sampler import NumElementsBatchSampler

from espnet2_kd.bin.make_tokens import main as make_tokens

ROOT = Path(__file__).resolve().parents[2]
HEARD = {"w-1": "0.9000", "w-2": "0.4000", "w-3": "0.5000"}


def write_dir(path, texts):
    path.mkdir(parents=True)
    tables = {
        "wav.scp": {utt: f"{utt}.flac" for utt in texts},
        "text": texts,
        "utt2spk": {utt: utt[0] for utt in texts},
        "spk2utt": {spk: " ".join(u for u in sorted(texts) if u[0] == spk) for spk in {utt[0] for utt in texts}},
        "utt2dur": dict.fromkeys(texts, "2.0"),
        "utt2num_samples": dict.fromkeys(texts, "32000"),
    }
    for name, rows in tables.items():
        (path / name).write_text("".join(f"{key} {rows[key]}\n" for key in sorted(rows)))


@pytest.fixture
def join(tmp_path):
    write_dir(tmp_path / "train", {"a-1": "good day", "a-2": "day"})
    write_dir(tmp_path / "heard", {"w-1": "a good day", "w-2": "go", "w-3": "today"})
    (tmp_path / "heard/utt2confidence").write_text("".join(f"{utt} {value}\n" for utt, value in HEARD.items()))
    make_tokens(
        ["--token_type", "char", "--text", str(tmp_path / "train/text"), "--output_dir", str(tmp_path / "char")]
    )

    def call(confidence):
        script = 'set -euo pipefail; . utils/once.sh; . egs2/TEMPLATE/kd1/student_data.sh; token_dir=$1; shift; join_heard "$@"'
        paths = [tmp_path / name for name in ("char", "heard", "train", "out")]
        paths.insert(2, confidence)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = ["bash", "-c", script, "kd.sh", *map(str, paths)]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)

    return call


def table(path):
    return dict(line.split(maxsplit=1) for line in path.read_text().splitlines())


def test_what_is_joined(join, tmp_path):
    run = join("0.5")
    assert run.returncode == 0, run.stderr
    text = {"a-1": "good day", "a-2": "day", "w-1": "a good day", "w-3": "today"}
    assert table(tmp_path / "out/text") == text
    num_tokens = len((tmp_path / "char/tokens.txt").read_text().splitlines())
    assert table(tmp_path / "out/text_shape.char") == {utt: f"{len(said)},{num_tokens}" for utt, said in text.items()}
    assert table(tmp_path / "out/speech_shape") == dict.fromkeys(text, "32000")
    shapes = [str(tmp_path / "out" / name) for name in ("speech_shape", "text_shape.char")]
    batches = list(NumElementsBatchSampler(batch_bins=70000, shape_files=shapes))
    assert sorted(utt for batch in batches for utt in batch) == sorted(text) and len(batches) == 2
    assert join("0.3").returncode == 0 and "w-2" in table(tmp_path / "out/text")


def test_a_teacher_that_is_sure_of_nothing(join, tmp_path):
    run = join("0.95")
    assert run.returncode == 1
    assert run.stderr == f"kd.sh: {tmp_path}/heard: no utterance of confidence 0.95 or more; lower pseudo_labels\n"
