"""Pseudo labels: what the model heard, nothing twice, nothing lost when killed, and no mixing of models."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from espnet2_kd.bin import decode, pseudo_label

LENS = {f"a-{n}": 8000 + 1500 * n for n in range(8)} | {"b-1": 1}


@pytest.fixture(scope="module")
def exp(tiny_experiment):
    return tiny_experiment("asr_pseudo_label")


def write_data_dir(path, lens):
    path.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for utt, num in lens.items():
        envelope = 0.1 * (1.0 + np.sin(np.arange(num) / 700.0))
        soundfile.write(path / f"{utt}.wav", generator.standard_normal(num) * envelope, 16000)
    write_tables(path, lens)
    return path


def write_tables(path, utts):
    (path / "wav.scp").write_text("".join(f"{utt} {path}/{utt}.wav\n" for utt in sorted(utts)))
    (path / "utt2spk").write_text("".join(f"{utt} {utt[0]}\n" for utt in sorted(utts)))
    speakers = sorted({utt[0] for utt in utts})
    lines = (f"{spk} {' '.join(u for u in sorted(utts) if u[0] == spk)}\n" for spk in speakers)
    (path / "spk2utt").write_text("".join(lines))


@pytest.fixture()
def data(tmp_path):
    return write_data_dir(tmp_path / "wild", LENS)


def table(path):
    return dict(line.partition(" ")[::2] for line in path.read_text().splitlines())


def command(exp, data, out, *options):
    return ["--exp", str(exp), "--data_dir", str(data), "--output_dir", str(out), *options]


def test_labels_are_what_the_model_decodes(exp, data, tmp_path):
    assert pseudo_label.main(command(exp, data, tmp_path / "out")) == 0
    assert decode.main(command(exp, data, tmp_path / "decoded")) == 0
    heard = {utt: text for utt, text in table(tmp_path / "decoded/text").items() if text}
    assert table(tmp_path / "out/text") == heard and len(heard) > 4 and "b-1" not in heard
    assert table(tmp_path / "out/wav.scp") == {utt: f"{data}/{utt}.wav" for utt in heard}
    scores, tokens = table(tmp_path / "decoded/score"), table(tmp_path / "decoded/token")
    for utt, confidence in table(tmp_path / "out/utt2confidence").items():
        expected = math.exp(float(scores[utt]) / (len(tokens[utt].split()) + 1))
        assert float(confidence) == pytest.approx(expected, abs=2e-4) and 0 <= expected <= 1
    check = [sys.executable, "-m", "espnet2_kd.bin.data_dir", "validate", tmp_path / "out"]
    assert subprocess.run(check, check=False).returncode == 0


def test_doubtful_utterances_are_left_out(exp, data, tmp_path, capsys):
    assert pseudo_label.main(command(exp, data, tmp_path / "out")) == 0
    confidence = {utt: float(value) for utt, value in table(tmp_path / "out/utt2confidence").items()}
    kept = set(table(tmp_path / "out/text"))
    middle = sorted(confidence[utt] for utt in kept)[len(kept) // 2]
    assert pseudo_label.main(command(exp, data, tmp_path / "out", "--min_confidence", str(middle))) == 0
    some = set(table(tmp_path / "out/text"))
    assert some < kept and all(confidence[utt] >= middle - 1e-4 for utt in some)
    assert pseudo_label.main(command(exp, data, tmp_path / "out", "--min_confidence", "1.1")) == 1
    assert (
        "no utterance left of 9 (1 in which the model heard nothing): lower --min_confidence" in capsys.readouterr().err
    )
    assert set(table(tmp_path / "out/text")) == some


def test_new_utterances_are_added_and_old_ones_not_heard_again(exp, data, tmp_path, monkeypatch):
    write_tables(data, sorted(LENS)[:5])
    assert pseudo_label.main(command(exp, data, tmp_path / "out")) == 0
    write_tables(data, LENS)
    from espnet2_kd.asr.recognizer import Recognizer

    heard, real = [], Recognizer.decode
    monkeypatch.setattr(Recognizer, "decode", lambda self, speech: heard.append(len(speech)) or real(self, speech))
    assert pseudo_label.main(command(exp, data, tmp_path / "out")) == 0
    assert sum(heard) == len(LENS) - 5
    assert pseudo_label.main(command(exp, data, tmp_path / "all")) == 0
    for name in ("text", "wav.scp", "utt2confidence"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_a_killed_run_goes_on(exp, data, tmp_path):
    out, options = tmp_path / "out", ("--batch_seconds", "0.1")
    run = [sys.executable, "-m", "espnet2_kd.bin.pseudo_label", *command(exp, data, out, *options)]
    slow = "import runpy,sys,time;from espnet2_kd.asr.recognizer import Recognizer as R;real=R.decode\n"
    slow += "def decode(self,x):\n time.sleep(0.3)\n return real(self,x)\nR.decode=decode\n"
    slow += "sys.argv=sys.argv[1:];runpy.run_module('espnet2_kd.bin.pseudo_label',run_name='__main__')"
    process = subprocess.Popen([sys.executable, "-c", slow, *run[2:]], env={**os.environ, "PYTHONPATH": os.getcwd()})
    labels, deadline = out / "labels.jsonl", time.monotonic() + 120
    while not (labels.exists() and labels.read_text().count("\n") >= 4):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "text").exists()
    before = labels.read_text()
    with labels.open("a") as stream:
        stream.write('{"utt": "a-0", "te')  # a line that was being written
    assert pseudo_label.main(command(exp, data, out, *options)) == 0
    assert labels.read_text().startswith(before[: before.rfind("\n") + 1])
    written = [json.loads(line) for line in labels.read_text().splitlines()]
    assert sorted(entry["utt"] for entry in written[1:]) == sorted(LENS)
    assert pseudo_label.main(command(exp, data, tmp_path / "whole", *options)) == 0
    assert (out / "text").read_bytes() == (tmp_path / "whole/text").read_bytes()


def test_labels_of_another_model_are_not_mixed(exp, data, tmp_path, capsys, tiny_experiment):
    assert pseudo_label.main(command(exp, data, tmp_path / "out")) == 0
    before = (tmp_path / "out/labels.jsonl").read_bytes()
    (tmp_path / "decode.yaml").write_text("search: beam\n")
    assert pseudo_label.main(command(exp, data, tmp_path / "out", "--config", str(tmp_path / "decode.yaml"))) == 1
    assert "labels.jsonl:0: -: holds labels that were made with another search: choose" in capsys.readouterr().err
    other = tiny_experiment("asr_pseudo_label_other", seed=5)
    assert pseudo_label.main(command(other, data, tmp_path / "out")) == 1
    assert "made with another model: choose" in capsys.readouterr().err
    assert (tmp_path / "out/labels.jsonl").read_bytes() == before


def test_a_damaged_file_is_named(exp, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert pseudo_label.main(command(exp, data, out)) == 0
    lines = (out / "labels.jsonl").read_text().splitlines(keepends=True)
    (out / "labels.jsonl").write_text("".join([*lines[:2], "broken\n", *lines[2:]]))
    assert pseudo_label.main(command(exp, data, out)) == 1
    assert "labels.jsonl:3: -: is damaged: move the file away" in capsys.readouterr().err
    shutil.rmtree(out)
    (data / "a-1.wav").write_bytes(b"")
    assert pseudo_label.main(command(exp, data, out)) == 1
    assert "a-1" in capsys.readouterr().err and not (out / "text").exists()
