"""wer_latency on tiny experiments: its points are those of decoding, scoring and streaming by hand."""

import json
import math

import jiwer
import numpy as np
import pytest
import soundfile

from espnet2_kd.bin import decode, wer_latency

LENS = {"a-1": 20000, "a-2": 33333, "b-1": 24000}
TEXTS = {"a-1": "a dab", "a-2": "deaf moon in", "b-1": "pa"}
STUDENT = {"chunk_ms": 80, "left_ms": 160, "dynamic_chunk_frames": [1, 2]}


@pytest.fixture(scope="module")
def student(tiny_experiment):
    return tiny_experiment("asr_curve_student", encoder_conf=STUDENT)


@pytest.fixture(scope="module")
def teacher(tiny_experiment):
    return tiny_experiment("asr_curve_teacher", encoder_conf={}, seed=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "test"
    path.mkdir()
    rng = np.random.default_rng(0)
    for utt, num in LENS.items():
        envelope = 0.1 * (1.0 + np.sin(np.arange(num) / 700.0))
        soundfile.write(path / f"{utt}.wav", rng.standard_normal(num) * envelope, 16000)
    (path / "wav.scp").write_text("".join(f"{utt} {path}/{utt}.wav\n" for utt in LENS))
    (path / "utt2spk").write_text("".join(f"{utt} {utt[0]}\n" for utt in LENS))
    (path / "spk2utt").write_text("a a-1 a-2\nb b-1\n")
    (path / "text").write_text("".join(f"{utt} {text}\n" for utt, text in TEXTS.items()))
    return path


def run(data, out, *options):
    return wer_latency.main(list(map(str, ["--data_dir", data, "--output_dir", out, "--max_utts", 2, *options])))


def test_points_are_what_decoding_and_scoring_by_hand_give(student, teacher, data, tmp_path):
    sizes = ("--chunk_ms", 40, 160, "--left_ms", 80, "inf", "--right_ms", 0, 40)
    assert run(data, tmp_path / "out", "--exp", student, teacher, *sizes) == 0
    points = json.loads((tmp_path / "out/wer_latency.json").read_text())
    keys = [(point["system"], point["chunk_ms"], point["left_ms"], point["right_ms"]) for point in points]
    grid = [(chunk, left, right) for chunk in (40, 160) for left in (80, "inf") for right in (0, 40)]
    assert keys == [*(("asr_curve_student", *sizes) for sizes in grid), ("asr_curve_teacher", None, None, None)]
    for point in points:
        exp, config = (student, "search: greedy\n") if point["chunk_ms"] else (teacher, "search: greedy\n")
        if point["chunk_ms"]:
            left = ".inf" if point["left_ms"] == "inf" else point["left_ms"]
            config += f"chunk_ms: {point['chunk_ms']}\nleft_ms: {left}\nright_ms: {point['right_ms']}\n"
        (tmp_path / "decode.yaml").write_text(config)
        by_hand = tmp_path / "by_hand"
        options = ["--exp", exp, "--data_dir", data, "--output_dir", by_hand, "--config", tmp_path / "decode.yaml"]
        assert decode.main([*map(str, options), "--force"]) == 0
        texts = dict(line.partition(" ")[::2] for line in (by_hand / "text").read_text().splitlines())
        references, hypotheses = list(TEXTS.values()), [texts[utt] for utt in TEXTS]
        assert point["wer"] == pytest.approx(100 * jiwer.wer(references, hypotheses))
        assert point["cer"] == pytest.approx(100 * jiwer.cer(references, hypotheses))
        assert point["num_utts"] == 3 and point["num_words"] == 6
        assert point["trained"] == (point["chunk_ms"] is None)
        stream = point["stream"]
        assert stream["num_utts"] == 2 and stream["chunk_ms"] == point["chunk_ms"]
        if point["chunk_ms"]:
            # Two layers: what the right context reaches comes in whole chunks but for the last layer's.
            ahead = point["right_ms"] and point["chunk_ms"] * math.ceil(40 / point["chunk_ms"]) + 40
            assert stream["lookahead_ms"] == ahead
            frames = (point["chunk_ms"] + ahead) // 40
            assert stream["algorithmic_latency_ms"] == ((4 * (frames - 1) + 6) * 160 + 512) / 16
    assert len({point["cer"] for point in points}) > 4


def test_table_picture_and_marks(student, teacher, data, tmp_path, capsys):
    options = ("--exp", student, teacher, "--chunk_ms", 40, 80, 120, "--align_exp", teacher)
    assert run(data, tmp_path, *options) == 0
    report = (tmp_path / "wer_latency.md").read_text()
    assert report in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines() if "asr_" in line]
    assert [row[:4] for row in rows] == [
        ["asr_curve_student", "40", "160", "0"],
        ["asr_curve_student", "80", "160", "0"],
        ["asr_curve_student †", "120", "160", "0"],
        ["asr_curve_teacher", "full", "full", "full"],
    ]
    assert "did not occur in training" in report and "3 utterances, 6 words; times over 2 of them" in report
    assert "endpointing" in report
    points = json.loads((tmp_path / "wer_latency.json").read_text())
    for row, point in zip(rows, points, strict=True):
        assert row[5] == f"{point['wer']:.2f}" and row[9] == f"{point['stream']['rtf']:.3f}"
        assert point["stream"]["first_token_from"] == "first_word_end"
    assert (tmp_path / "wer_latency.png").read_bytes()[:4] == b"\x89PNG"


def test_a_stopped_run_goes_on_and_only_what_changed_is_done_again(student, data, tmp_path):
    def dates():
        return {path.parent.name: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("stream.json"))}

    assert run(data, tmp_path, "--exp", student, "--chunk_ms", 40) == 0
    before = dates()
    assert run(data, tmp_path, "--exp", student, "--chunk_ms", 40, 80) == 0
    after = dates()
    assert list(after) == ["chunk40_left160_right0", "chunk80_left160_right0"]
    assert {name: after[name] for name in before} == before
    (tmp_path / "decode.yaml").write_text("search: beam\n")
    assert run(data, tmp_path, "--exp", student, "--chunk_ms", 40, "--config", tmp_path / "decode.yaml") == 0
    assert dates()["chunk40_left160_right0"] > before["chunk40_left160_right0"]


def test_wrong_input_is_one_line_and_nothing_is_decoded(student, data, tmp_path, capsys):
    (tmp_path / "decode.yaml").write_text("chunk_ms: 80\n")
    cases = [
        (("--exp", student, "--chunk_ms", 80, 90), "chunk_ms=90 is not a multiple of the encoder frame of 40 ms"),
        (
            ("--exp", student, "--config", tmp_path / "decode.yaml"),
            "decode.yaml: chunk_ms: give it as an option instead",
        ),
        (("--exp", student, student), "two have the same name"),
        (("--exp", tmp_path / "nothing"), "nothing"),
    ]
    for options, message in cases:
        assert run(data, tmp_path / "out", *options) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
