import difflib
import io
import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.bin import decode, stream

RATE = 16000
LENS = {"a-1": 20000, "a-2": 33333, "b-1": 700}


def noise(num, seed=0):
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(num) * 0.1 * (1.0 + np.sin(np.arange(num) / 700.0))).astype(np.float32)


@pytest.fixture(scope="module")
def student(tiny_experiment):
    return tiny_experiment("asr_stream_student")


@pytest.fixture(scope="module")
def teacher(tiny_experiment):
    return tiny_experiment("asr_stream_teacher", encoder_conf={}, seed=2)


@pytest.fixture(scope="module")
def word_student(tiny_experiment):
    return tiny_experiment("asr_stream_word_student", token_type="word")


@pytest.fixture(scope="module")
def word_teacher(tiny_experiment):
    return tiny_experiment("asr_stream_word_teacher", encoder_conf={}, token_type="word", seed=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "test"
    path.mkdir()
    for utt, num in LENS.items():
        soundfile.write(path / f"{utt}.wav", noise(num, len(utt)), RATE)
    (path / "wav.scp").write_text("".join(f"{utt} {path}/{utt}.wav\n" for utt in LENS))
    (path / "utt2spk").write_text("".join(f"{utt} {utt[0]}\n" for utt in LENS))
    (path / "spk2utt").write_text("a a-1 a-2\nb b-1\n")
    return path


def recognizer(exp, **settings):
    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.asr.recognizer import Recognizer

    return Recognizer.load(exp, "valid.loss_transducer.ave.pth", DecodeConfig(**settings))


def live(recognizer, samples, piece):
    from espnet2_kd.asr.live_decoder import LiveDecoder

    return LiveDecoder(recognizer).run(torch.from_numpy(samples), piece)


@pytest.mark.parametrize("search", ["greedy", "beam"])
@pytest.mark.parametrize("piece", [123, 640, 2560, 5000, 10**6])
def test_streaming_equals_offline_in_any_pieces(student, search, piece):
    engine = recognizer(student, search=search)
    for num in (33333, 12345):
        samples = noise(num)
        offline = engine.decode([samples])[0][0]
        last = live(engine, samples, piece)[-1].hypothesis
        assert last.tokens == offline.tokens and last.frames == offline.frames
        assert last.score == pytest.approx(offline.score, abs=1e-2)
        assert engine.text(last) == engine.text(offline)
        assert len(offline.tokens) > 3


def test_a_chunk_size_given_for_decoding_is_used_by_both(student):
    engine, trained = recognizer(student, chunk_ms=160), recognizer(student)
    samples = noise(33333)
    offline = engine.decode([samples])[0][0]
    assert live(engine, samples, 640)[-1].hypothesis.tokens == offline.tokens
    assert offline.tokens != trained.decode([samples])[0][0].tokens


@pytest.mark.parametrize("piece", [640, 1000])
def test_future_audio_cannot_change_what_was_emitted(student, piece):
    engine = recognizer(student)
    samples = noise(32000)
    whole = live(engine, samples, piece)
    for cut in (8000, 16000, 27000):
        cut -= cut % piece
        other = np.concatenate([samples[:cut], noise(32000 - cut, seed=9) * 3.0])
        before = cut // piece
        changed = live(engine, other, piece)
        assert [s.hypothesis for s in changed[:before]] == [s.hypothesis for s in whole[:before]]
        emitted = whole[before - 1].hypothesis.tokens
        assert changed[-1].hypothesis.tokens[: len(emitted)] == emitted
        assert changed[-1].hypothesis.tokens != whole[-1].hypothesis.tokens
    assert whole[len(whole) // 2].hypothesis.tokens, "tokens must come out before the end for this to mean anything"


def test_a_full_context_model_answers_after_the_end(teacher):
    engine = recognizer(teacher)
    samples = noise(20000)
    steps = live(engine, samples, 640)
    assert all(step.hypothesis.tokens == () and step.num_frames == 0 for step in steps[:-1])
    assert steps[-1].hypothesis.tokens == engine.decode([samples])[0][0].tokens != ()
    assert steps[-1].audio_ms == pytest.approx(1250.0)


def test_eight_bits_say_almost_the_same(tiny_experiment):
    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.asr.recognizer import Recognizer

    conf = {"output_size": 64, "linear_units": 128, "chunk_ms": 80, "left_ms": 160}
    exp = tiny_experiment("asr_stream_int8", encoder_conf=conf)
    engine = recognizer(exp)
    small = Recognizer.load(exp, "valid.loss_transducer.ave.pth", DecodeConfig(), quantize=True)
    equal, num = 0, 0
    for seed in range(3):
        samples = noise(33333, seed)
        expected, actual = (live(e, samples, 1000)[-1].hypothesis.tokens for e in (engine, small))
        matcher = difflib.SequenceMatcher(None, expected, actual, autojunk=False)
        equal += sum(block.size for block in matcher.get_matching_blocks())
        num += len(expected)
        # Whole utterances are decoded as ever.
        assert small.decode([samples])[0][0].tokens == engine.decode([samples])[0][0].tokens
    assert num > 30 and equal > 0.8 * num


def test_eight_bits_need_chunks(teacher, data, capsys):
    assert run(teacher, data / "a-1.wav", "--quantize", "true") == 1
    assert "bounded left context" in capsys.readouterr().err


def test_a_report_says_whether_it_was_quantised(student, data, tmp_path, capsys):
    out = tmp_path / "out"
    for options, is_done in (((), False), (("--quantize", "true"), False), (("--quantize", "true"), True), ((), False)):
        capsys.readouterr()
        assert run(student, "--data_dir", data, "--output_dir", out, *options) == 0
        assert read(out)[1]["quantize"] == bool(options)
        assert ("nothing to do" in capsys.readouterr().out) == is_done


def run(exp, *options):
    return stream.main(["--exp", str(exp), *map(str, options)])


def read(out):
    records = [json.loads(line) for line in (out / "stream.jsonl").read_text().splitlines()]
    return records, json.loads((out / "stream.json").read_text())


def test_report_of_a_data_directory(student, data, tmp_path):
    out = tmp_path / "out"
    assert run(student, "--data_dir", data, "--output_dir", out) == 0
    records, totals = read(out)
    assert decode.main(["--exp", str(student), "--data_dir", str(data), "--output_dir", str(tmp_path / "offline")]) == 0
    offline = dict(line.partition(" ")[::2] for line in (tmp_path / "offline/text").read_text().splitlines())
    assert {record["utt"]: record["text"] for record in records} == offline
    assert totals["mode"] == "streaming" and totals["threads"] == 1 and totals["num_utts"] == 3
    assert totals["chunk_ms"] == 80 and totals["lookahead_ms"] == 0 and totals["piece_ms"] == 40
    # Two frames of 40 ms: the second one ends at feature 4 + 6, whose window ends 512 samples after its start.
    assert totals["algorithmic_latency_ms"] == (10 * 160 + 512) / 16
    assert totals["emission_delay_ms"] is None and totals["first_token_from"] == "audio_start"
    assert set(totals["chunk_compute_ms"]) == {"p50", "p90", "p99"}
    assert totals["audio_seconds"] == pytest.approx(sum(LENS.values()) / RATE, abs=2e-3)
    assert totals["rtf"] == pytest.approx(
        sum(r["compute_seconds"] for r in records) / totals["audio_seconds"], abs=1e-3
    )
    first = [r["first_token_ms"] for r in records if r["text"]]
    assert totals["first_token_ms"]["mean"] == pytest.approx(np.mean(first), abs=0.01)
    assert totals["num_empty"] == 1 and records[2]["text"] == "" and records[2]["first_token_ms"] is None
    for record in records[:2]:
        assert record["first_token_ms"] <= record["words"][0]["ms"]
        assert [w["ms"] for w in record["words"]] == sorted(w["ms"] for w in record["words"])
        assert record["words"][0]["ms"] < 1000 * record["audio_seconds"]


def test_a_measurement_is_repeated_when_its_conditions_change(student, data, tmp_path, capsys):
    out = tmp_path / "out"
    for options, num_utts, is_done in (((), 3, False), ((), 3, True), (("--max_utts", 1), 1, False)):
        capsys.readouterr()
        assert run(student, "--data_dir", data, "--output_dir", out, *options) == 0
        assert len(read(out)[0]) == read(out)[1]["num_utts"] == num_utts
        assert ("nothing to do" in capsys.readouterr().out) == is_done
    assert run(student, "--data_dir", data, "--output_dir", out, "--max_utts", 1, "--force") == 0
    assert "nothing to do" not in capsys.readouterr().out
    scored = student / "decode.yaml"  # how it is decoded without --config
    try:
        scored.write_text("search: beam\nbeam_size: 2\n")
        for is_done in (False, True):
            assert run(student, "--data_dir", data, "--output_dir", out, "--max_utts", 1) == 0
            assert ("nothing to do" in capsys.readouterr().out) == is_done
    finally:
        scored.unlink()


@pytest.mark.parametrize("system", ["word_student", "word_teacher"])
def test_delays_are_counted_from_the_aligned_word_ends(system, word_teacher, data, tmp_path, request):
    from espnet2_kd.asr.alignment import align
    from espnet2_kd.asr.load import load_model

    exp = request.getfixturevalue(system)
    plain = tmp_path / "plain"
    assert run(exp, "--data_dir", data, "--output_dir", plain) == 0
    # The reference is the beginning of what the model says, so that as many words are correct.
    words = {record["utt"]: record["text"].split()[:9] or ["pa"] for record in read(plain)[0]}
    (data / "text").write_text("".join(f"{utt} {' '.join(words[utt])}\n" for utt in sorted(words)))
    out = tmp_path / "out"
    assert run(exp, "--data_dir", data, "--output_dir", out, "--align_exp", word_teacher) == 0
    (data / "text").unlink()
    records, totals = read(out)
    assert totals["first_token_from"] == "first_word_end"
    assert totals["mode"] == ("streaming" if system == "word_student" else "offline")
    model, args = load_model(word_teacher, "valid.loss_transducer.ave.pth")
    delays = []
    for record in records[:2]:
        utt = record["utt"]
        speech = torch.from_numpy(soundfile.read(data / f"{utt}.wav", dtype="float32")[0])
        alignment = align(model, speech, [args.token_list.index(word) for word in words[utt]])
        ends = [(frame + 1) * 40.0 for frame in alignment.frames]
        assert [word["end_ms"] for word in record["reference_words"]] == ends
        expected = [word["ms"] - end for word, end in zip(record["words"], ends)]
        assert len(expected) == 9
        assert record["emission_delay_ms"] == pytest.approx(expected, abs=0.02)
        assert record["first_token_ms"] == pytest.approx(expected[0], abs=0.02)
        frames = (
            Recognizer.load(exp, "valid.loss_transducer.ave.pth", DecodeConfig.read(None))
            .decode([speech.numpy()])[0][0]
            .frames
        )
        if system == "word_teacher":  # which hears the same in pieces as in one
            assert record["frames_ms"] == [(frame + 1) * 40.0 for frame in frames]
        # No word comes out before the frame of its last token has been spoken.
        assert record["frames_ms"] == sorted(record["frames_ms"])
        assert all(word["ms"] >= ms for word, ms in zip(record["words"], record["frames_ms"]))
        delays += expected
        if system == "word_teacher":
            assert min(word["ms"] for word in record["words"]) >= 1000 * record["audio_seconds"]
    assert "too short" in records[2]["not_aligned"] and totals["num_not_aligned"] == 1
    assert totals["emission_delay_ms"]["mean"] == pytest.approx(np.mean(delays), abs=0.05)
    assert totals["emission_delay_ms"]["p50"] == pytest.approx(np.median(delays), abs=0.05)


def test_a_file_is_shown_as_it_is_understood(student, data, capsys):
    path = data / "a-2.wav"
    assert run(student, path) == 0
    lines = capsys.readouterr().out.splitlines()
    engine = recognizer(student)
    samples, _ = soundfile.read(path, dtype="float32")
    text = engine.text(engine.decode([samples])[0][0])
    assert f"{path} {text}" in lines and "real-time factor" in lines[-1]
    partial = [line.split(" s  ")[1] for line in lines if " s  " in line]
    assert len(partial) > 3 and partial[-1] == text
    assert all(text.startswith(words) for words in partial)


@pytest.mark.parametrize("header", [True, False])
def test_standard_input(student, data, capsys, monkeypatch, header):
    samples, _ = soundfile.read(data / "a-1.wav", dtype="int16")
    raw = (data / "a-1.wav").read_bytes() if header else samples.tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(raw))))
    assert run(student, "-") == 0
    engine = recognizer(student)
    text = engine.text(engine.decode([samples.astype(np.float32) / 32768])[0][0])
    assert f"- {text}" in capsys.readouterr().out.splitlines()


def test_nothing_on_standard_input(student, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b""))))
    assert run(student, "-") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "-"


def test_features_that_need_the_whole_utterance_are_refused(student):
    from espnet2_kd.asr.live_decoder import LiveDecoder
    from espnet2_kd.kd.registry import ConfigError

    engine = recognizer(student)
    engine.model.normalize = torch.nn.Identity()
    with pytest.raises(ConfigError, match="piece|whole"):
        LiveDecoder(engine)


def test_problems_are_reported_without_a_traceback(student, data, tmp_path, capsys):
    assert run(student, tmp_path / "none.wav") == 1
    assert "file not found" in capsys.readouterr().err
    assert run(student, "--data_dir", tmp_path / "none", "--output_dir", tmp_path / "out") == 1
    assert not (tmp_path / "out").exists()
    for options in ((), ("a.wav", "--data_dir", data), ("--data_dir", data), ("a.wav", "--piece_ms", 0)):
        with pytest.raises(SystemExit) as end:
            run(student, *options)
        assert end.value.code == 2
