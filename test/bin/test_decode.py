import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from espnet2_kd.bin import decode

LENS = {"a-1": 8000, "a-2": 23456, "b-1": 100, "b-2": 16000, "c-1": 15999, "c-2": 1}


def write_data_dir(path, lens, rate=16000):
    """Noise bursts of the given numbers of samples; utterances a-1, a-2 belong to speaker a."""
    path.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for utt, num in lens.items():
        envelope = 0.1 * (1.0 + np.sin(np.arange(num) / 700.0))
        soundfile.write(path / f"{utt}.wav", generator.standard_normal(num) * envelope, rate)
    (path / "wav.scp").write_text("".join(f"{utt} {path}/{utt}.wav\n" for utt in sorted(lens)))
    (path / "utt2spk").write_text("".join(f"{utt} {utt[0]}\n" for utt in sorted(lens)))
    speakers = sorted({utt[0] for utt in lens})
    (path / "spk2utt").write_text(
        "".join(f"{spk} {' '.join(u for u in sorted(lens) if u[0] == spk)}\n" for spk in speakers)
    )
    return path


@pytest.fixture(scope="module")
def exp(tiny_experiment):
    return tiny_experiment("asr_decode")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data_dir(tmp_path_factory.mktemp("data") / "test", LENS)


def run(exp, data, out, *options):
    return decode.main(["--exp", str(exp), "--data_dir", str(data), "--output_dir", str(out), *options])


def table(path):
    return dict(line.partition(" ")[::2] for line in path.read_text().splitlines())


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_batches_equal_single_utterances_decoded_by_hand(exp, data, tmp_path, search):
    from espnet2_kd.asr.load import load_model
    from espnet2_kd.asr.search import build_search

    (tmp_path / "decode.yaml").write_text(f"search: {search}\n")
    assert run(exp, data, tmp_path / "out", "--config", str(tmp_path / "decode.yaml")) == 0
    text, token, score = (table(tmp_path / "out" / name) for name in ("text", "token", "score"))
    assert list(text) == list(token) == list(score) == sorted(LENS)
    model, _ = load_model(exp, "valid.loss_transducer.ave.pth")
    searcher = build_search(model, search)
    for utt, num in LENS.items():
        if num < 1500:
            assert text[utt] == token[utt] == "" and float(score[utt]) == 0.0
            continue
        speech = torch.from_numpy(soundfile.read(data / f"{utt}.wav", dtype="float32")[0]).unsqueeze(0)
        with torch.no_grad():
            enc, _ = model.encode(speech, torch.tensor([num]))
        best = searcher.result(searcher.advance(enc[0], searcher.start()))[0]
        tokens = [model.token_list[k] for k in best.tokens]
        assert token[utt].split() == tokens
        assert text[utt] == " ".join("".join(tokens).replace("<space>", " ").split())
        assert float(score[utt]) == pytest.approx(best.score, abs=1e-3)
    assert len({value for value in token.values() if len(value.split()) > 3}) >= 3
    # An empty hypothesis is the bare id.
    assert "b-1\n" in (tmp_path / "out/text").read_text()


def test_batch_size_does_not_matter(exp, data, tmp_path):
    assert run(exp, data, tmp_path / "one", "--batch_seconds", "0.001") == 0
    assert run(exp, data, tmp_path / "all", "--batch_seconds", "1000") == 0
    assert table(tmp_path / "one/token") == table(tmp_path / "all/token")


def test_batches_respect_the_limit(data):
    from espnet2_kd.asr.utterances import Utterances

    utterances = Utterances(data, 16000)
    batches = utterances.batches(2.0)
    assert sorted(utt for batch in batches for utt in batch) == utterances.ids
    assert [batch[0] for batch in batches][:2] == ["a-2", "b-2"] and batches[1] == ["b-2", "c-1"]
    assert all(len(batch) == 1 or len(batch) * LENS[batch[0]] <= 32000 for batch in batches)


def test_a_finished_decoding_is_not_repeated(exp, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(exp, data, out) == 0
    first = (out / "text").stat().st_mtime_ns
    capsys.readouterr()
    assert run(exp, data, out) == 0
    assert "nothing to do" in capsys.readouterr().out and (out / "text").stat().st_mtime_ns == first
    (data / "wav.scp").write_text((data / "wav.scp").read_text())  # another date
    assert run(exp, data, out) == 0
    assert (out / "text").stat().st_mtime_ns == first
    beam = tmp_path / "beam.yaml"
    beam.write_text("search: beam\nbeam_size: 2\n")
    assert run(exp, data, out, "--config", str(beam)) == 0
    second = (out / "text").stat().st_mtime_ns
    assert second > first
    assert run(exp, data, out) == 0
    assert (out / "text").stat().st_mtime_ns > second
    (out / "score").unlink()
    assert run(exp, data, out) == 0
    assert (out / "score").is_file()


def test_every_bad_file_is_named_and_nothing_is_written(exp, tmp_path, capsys):
    data = write_data_dir(tmp_path / "bad", {"a-1": 8000, "a-2": 9000, "b-1": 8000})
    (data / "a-1.wav").write_bytes(b"RIFFnonsense")
    soundfile.write(data / "b-1.wav", np.zeros(4000), 8000)
    assert run(exp, data, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert f"{data}/wav.scp:1: a-1:" in message and f"{data}/wav.scp:3: b-1: 8000 Hz" in message
    assert not (tmp_path / "out").exists()


def test_problems_of_set_up_are_reported_without_a_traceback(exp, data, tmp_path, capsys):
    assert run(exp, tmp_path / "nowhere", tmp_path / "out") == 1
    assert run(exp, data, tmp_path / "out", "--model_file", "9epoch.pth") == 1
    (tmp_path / "decode.yaml").write_text("beam: 4\n")
    assert run(exp, data, tmp_path / "out", "--config", str(tmp_path / "decode.yaml")) == 1
    errors = capsys.readouterr().err
    assert "nowhere" in errors and "9epoch.pth: not found" in errors and "did you mean beam_size?" in errors


@pytest.mark.parametrize("command", ["decode", "stream"])
def test_help_needs_no_torch(command):
    code = (
        f"import sys; from espnet2_kd.bin import {command}\n"
        f"try:\n    {command}.main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules and 'espnet2' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--exp" in done.stdout
