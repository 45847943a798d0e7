"""Frames kept on disk: the recogniser's own, slowed down, with the times of words by its CTC output."""

import hashlib

import kaldiio
import numpy as np
import pytest
import soundfile
import torch

from espnet2_kd.asr.alignment import align
from espnet2_kd.asr.load import load_model
from espnet2_kd.bin.acoustic_frames import main
from espnet2_kd.data.table import read_table, write_table
from espnet2_kd.slu.frames import AcousticFrames, written_as
from espnet2_kd.slu.sentence import SentenceReader

MODEL = "valid.loss_transducer.ave.pth"
TEXTS = {"utt1": "ab c", "utt2": "a", "utt3": "abc abc abc abc abc abc abc abc"}
SECONDS = {"utt1": 1.3, "utt2": 0.9, "utt3": 0.5}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for utt, seconds in SECONDS.items():
        soundfile.write(folder / f"{utt}.wav", generator.normal(0, 0.1, int(16000 * seconds)), 16000)
    write_table(folder / "wav.scp", {utt: str(folder / f"{utt}.wav") for utt in TEXTS})
    write_table(folder / "text", TEXTS)
    write_table(folder / "utt2spk", {utt: utt for utt in TEXTS})
    write_table(folder / "spk2utt", {utt: utt for utt in TEXTS})
    write_table(folder / "label", {utt: "intent=a" for utt in TEXTS})
    return folder


@pytest.fixture(scope="session")  # workers may come back to a module
def ears(tiny_experiment):
    return tiny_experiment("asr_of_frames")


def run(exp, data, out, *options):
    return main(["--exp", str(exp), "--slow_rate", "2", "--data_dir", str(data), "--output_dir", str(out), *options])


@torch.no_grad()
def test_frames_and_spans(ears, tiny_bert, data, tmp_path, caplog, capsys):
    exp, out = ears, tmp_path / "frames"
    assert run(exp, data, out, "--hf_model", str(tiny_bert)) == 0
    assert "frames of 3 utterances" in capsys.readouterr().out
    model, args = load_model(exp, MODEL)
    reader = SentenceReader(str(tiny_bert))
    frames, spans = (kaldiio.load_scp(str(out / f"{name}.scp")) for name in ("frames", "spans"))
    for utt, text in TEXTS.items():
        samples = torch.from_numpy(soundfile.read(data / f"{utt}.wav", dtype="float32")[0])
        encoded = model.encode(samples[None], torch.tensor([len(samples)]))[0][0]
        expected = [encoded[start : start + 2].mean(0) for start in range(0, len(encoded), 2)]
        np.testing.assert_allclose(frames[utt], torch.stack(expected), rtol=1e-4, atol=1e-5)
        words = text.split()
        if utt == "utt3":  # 31 labels in a dozen frames
            ends, begin = [len(encoded) * (n + 1) / len(words) for n in range(len(words))], 0.0
        else:
            tokens = ["<space>" if letter == " " else letter for letter in text]
            path = align(model, samples, [args.token_list.index(token) for token in tokens]).frames
            places = np.cumsum([len(word) + 1 for word in words]) - 2
            ends, begin = [path[place] + 1.0 for place in places], float(path[0])
        np.testing.assert_allclose(spans[utt], reader.spans(text, ends, begin, len(encoded)) / 2, rtol=1e-6)
        assert len(spans[utt]) == len(reader.ids(text))
    assert "1 utterances are too short for their text" in caplog.text
    assert {utt: shape.split(",")[1] for utt, shape in read_table(out / "frames_shape").items()} == dict.fromkeys(
        TEXTS, "16"
    )
    assert read_table(out / "label") == read_table(data / "label")
    assert not list(out.glob("*.tmp"))


def test_made_once_and_again_when_anything_changes(ears, tiny_bert, data, tmp_path):
    exp, out = ears, tmp_path / "frames"
    assert run(exp, data, out) == 0
    assert not (out / "spans.scp").exists()
    stamp = (out / "frames.ark").stat().st_mtime_ns
    assert run(exp, data, out) == 0
    assert (out / "frames.ark").stat().st_mtime_ns == stamp
    write_table(data / "text", {**TEXTS, "utt2": "b"})
    assert run(exp, data, out) == 0
    assert (out / "frames.ark").stat().st_mtime_ns != stamp
    assert read_table(out / "text")["utt2"] == "b"
    assert run(exp, data, out, "--hf_model", str(tiny_bert)) == 0
    assert (out / "spans.scp").exists()
    # Spans that nobody asks for now are left, and the frames, too.
    stamp, digest = (out / "frames.ark").stat().st_mtime_ns, (out / "frames.sha256").read_text()
    assert digest == hashlib.sha256((out / "frames.ark").read_bytes()).hexdigest()
    assert run(exp, data, out) == 0
    assert (out / "spans.scp").exists() and (out / "frames.ark").stat().st_mtime_ns == stamp
    # Other speech in a file of the same name and length.
    soundfile.write(data / "utt2.wav", np.random.default_rng(7).normal(0, 0.1, int(16000 * SECONDS["utt2"])), 16000)
    assert run(exp, data, out) == 0
    assert (out / "frames.sha256").read_text() != digest
    assert not (out / "spans.scp").exists()


def test_speech_of_less_than_a_frame(ears, data, tmp_path, caplog):
    for utt, num in (("utt1", 300), ("utt2", 1000)):
        soundfile.write(data / f"{utt}.wav", np.random.default_rng(0).normal(0, 0.1, num), 16000)
    assert run(ears, data, tmp_path / "frames") == 0
    assert "2 utterances are shorter than" in caplog.text
    frames = kaldiio.load_scp(str(tmp_path / "frames/frames.scp"))
    assert all(len(frames[utt]) == 1 and np.isfinite(frames[utt]).all() for utt in ("utt1", "utt2"))


@torch.no_grad()
def test_spans_do_not_depend_on_the_case_of_the_text(ears, tiny_bert, data, tmp_path):
    """The recogniser knows small letters only."""
    assert run(ears, data, tmp_path / "small", "--hf_model", str(tiny_bert)) == 0
    write_table(data / "text", {utt: text.upper() for utt, text in TEXTS.items()})
    assert run(ears, data, tmp_path / "capital", "--hf_model", str(tiny_bert)) == 0
    small, capital = (kaldiio.load_scp(str(tmp_path / name / "spans.scp")) for name in ("small", "capital"))
    for utt in TEXTS:
        assert small[utt][-1, 1] == capital[utt][-1, 1] and small[utt][0, 1] == capital[utt][0, 1]


def test_an_encoder_with_ctc_outputs_inside(ears, data, tmp_path, monkeypatch):
    """ESPnet2's gives a tuple of its states and those of layers inside."""
    assert run(ears, data, tmp_path / "plain") == 0
    plain = AcousticFrames.__init__

    def init(self, *args):
        plain(self, *args)
        encode = self.model.encode
        monkeypatch.setattr(self.model, "encode", lambda *x: ((encode(*x)[0], [(1, None)]), encode(*x)[1]))

    monkeypatch.setattr(AcousticFrames, "__init__", init)
    assert run(ears, data, tmp_path / "inside") == 0
    one, other = (kaldiio.load_scp(str(tmp_path / name / "frames.scp")) for name in ("plain", "inside"))
    assert all(np.array_equal(one[utt], other[utt]) for utt in TEXTS)


def test_how_a_recogniser_writes():
    assert written_as(["<blank>", "<unk>", "A", "\u2581THE", "<sos/eos>"])("the a") == "THE A"
    assert written_as(["<blank>", "a", "b", "<sos/eos>"])("A b") == "a b"
    assert written_as(["a", "B"])("A b") == "A b"
    assert written_as(["<unk>", "你", "好"])("Ab 好") == "Ab 好"


def test_faults(ears, tiny_experiment, tiny_bert, data, tmp_path, capsys):
    exp, out = ears, tmp_path / "frames"
    (data / "utt2.wav").write_bytes(b"RIFF")
    assert run(exp, data, out) == 1
    assert "utt2" in capsys.readouterr().err
    assert not (out / "frames.scp").exists()
    with pytest.raises(SystemExit):
        run(exp, data, out, "--slow_rate", "0")
    assert "--slow_rate: 0: expected a whole number from 1" in capsys.readouterr().err
    assert run(exp, data, out, "--device", "gpu") == 1
    assert "device gpu cannot be used" in capsys.readouterr().err
    more = tiny_experiment("asr_and_more")
    (more / "config.yaml").write_text(f"{(more / 'config.yaml').read_text()}\npostencoder: length_adaptor\n")
    assert run(more, data, out) == 1
    assert "asr_and_more: has a postencoder (length_adaptor); take a recogniser without one" in capsys.readouterr().err
    deaf = tiny_experiment("asr_no_ctc", ctc_weight=0.0)
    assert run(deaf, data, out, "--hf_model", str(tiny_bert)) == 1
    assert "has no CTC output" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(exp, data, out, "--data_dir", str(data), str(data))


def test_faults_of_the_text(ears, tiny_bert, data, tmp_path, capsys):
    out, aligned = tmp_path / "frames", ("--hf_model", str(tiny_bert))
    write_table(data / "text", {utt: "ščř" for utt in TEXTS})
    assert run(ears, data, out, *aligned) == 1
    assert "does not know the letters of 3 of 3 texts" in capsys.readouterr().err
    (data / "text").unlink()
    assert run(ears, data, out, *aligned) == 1
    assert "text:0: utt1: has no text to align: write its words there" in capsys.readouterr().err
    assert not (out / "frames.scp").exists()
