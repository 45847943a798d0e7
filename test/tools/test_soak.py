"""What `make soak` compares and looks for: another bit, another file, another process must be noticed; times must not."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

SOAK = str(Path(__file__).resolve().parents[2] / "tools/soak")
sys.path.insert(0, SOAK)
try:
    import processes
    from snapshot import compare, snapshot
finally:
    sys.path.remove(SOAK)

REPORT = """# RESULTS

| system | WER % | RTF | training |
| :----- | ----: | --: | -------: |
| a      | {wer} | {rtf} | < 1 min |

- date: `{date}`
"""


def weights(value):
    return {"encoder.weight": torch.full((2, 3), value), "decoder.bias": torch.zeros(2, dtype=torch.int64)}


def packed(value, when):
    """As ESPnet2 packs a model."""
    model, pack = io.BytesIO(), io.BytesIO()
    torch.save(weights(value), model)
    with zipfile.ZipFile(pack, "w") as bundle:
        bundle.writestr("exp/a/ave.pth", model.getvalue())
        bundle.writestr("meta.yaml", f"timestamp: {when}\ntorch: '2'\n")
        rows = f"| system | WER % | first token ms |\n| :--- | ---: | ---: |\n| a | {value} | {when} |\n"
        bundle.writestr("README.md", f"{rows}\n- test, as if live: real-time factor 0.{when}\n")
    return pack.getvalue()


@pytest.fixture
def make(tmp_path):
    """Function that writes what a recipe leaves; `when` is all that tells two runs of one command apart."""

    def write(name, when, value=1.0, text="turn on", wer="12.50"):
        recipe = tmp_path / name
        exp = recipe / "exp/a"
        exp.mkdir(parents=True)
        torch.save(weights(value), exp / "valid.ave.pth", _use_new_zipfile_serialization=when < 5)
        (exp / "valid.best.pth").symlink_to("valid.ave.pth")
        (exp / "checkpoint.pth").write_bytes(b"%d" % when)
        (exp / "train.log").write_text(f"took {when} s\n")
        (exp / f"events.out.tfevents.{when}").touch()
        (exp / "asr_a.zip").write_bytes(packed(value, when))
        np.savez(exp / "stats.npz", sum=np.arange(3.0))
        (exp / "run.json").write_text(json.dumps({"name": "a", "seed": 1, "train_seconds": when}))
        (exp / "stream.jsonl").write_text(json.dumps({"utt": "u", "text": text, "rtf": when}) + "\n")
        (exp / "text").write_text(f"u {text}\n")
        (exp / ".done").write_text(f"{when:064x}  -\nstage=train seconds={when}\n")
        (exp / "index.html").write_text(f"<p>{when} s</p>")
        (recipe / "RESULTS.md").write_text(REPORT.format(wer=wer, rtf=f"0.{when}", date=when))
        return recipe

    return write


def test_two_runs_of_one_command_are_the_same(make):
    one, two = snapshot(make("one", 1)), snapshot(make("two", 9))
    assert compare(one, two) == {"missing": [], "left over": [], "different": []}
    assert len(one) == 12


def test_what_differs_is_noticed(make):
    one = snapshot(make("one", 1))
    other = snapshot(make("two", 1, np.nextafter(np.float32(1), np.float32(2)).item()))
    assert compare(one, other)["different"] == ["exp/a/asr_a.zip", "exp/a/valid.ave.pth"]
    other = snapshot(make("three", 1, text="turn off", wer="12.51"))
    assert compare(one, other)["different"] == ["RESULTS.md", "exp/a/stream.jsonl", "exp/a/text"]


def test_files_that_are_left_over_or_missing_are_noticed(make):
    one, recipe = snapshot(make("one", 1)), make("two", 2)
    (recipe / "exp/a/.valid.ave.pth.tmp").touch()
    (recipe / "exp/a/stats.npz").unlink()
    (recipe / "exp/a/valid.best.pth").unlink()
    (recipe / "exp/a/valid.best.pth").symlink_to("1epoch.pth")
    assert compare(one, snapshot(recipe)) == {
        "missing": ["exp/a/stats.npz"],
        "left over": ["exp/a/.valid.ave.pth.tmp"],
        "different": ["exp/a/valid.best.pth"],
    }


def test_descendants_are_found_by_their_mark_in_whatever_session():
    environment = {**os.environ, processes.MARK: "test.1"}
    script = subprocess.Popen(
        ["bash", "-c", "setsid sleep 300 & sleep 300 & echo started; wait"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert script.stdout.readline() == "started\n"
        found = processes.survivors("test.1", 0.5)
        assert script.pid in found and sum(name == "sleep 300" for name in found.values()) == 2
        assert not processes.marked("test.2") and not processes.marked("test")
        script.kill()
        script.wait()
        assert list(processes.survivors("test.1", 0.5).values()) == ["sleep 300"] * 2
    finally:
        processes.kill_all("test.1")
    assert not processes.marked("test.1")
