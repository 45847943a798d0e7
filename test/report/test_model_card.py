"""Cards of models: what the hub's own reader finds in the header, and every number where it belongs."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from espnet2_kd.report.comparison import Comparison, Row, Spread
from espnet2_kd.report.model_card import describe, render_card

TERM = {
    "name": "l4",
    "student": "encoder.encoders.3",
    "teacher": "encoder.encoders.3",
    "losses": {"mse": {}, "future": {}},
}
CONFIG = {
    "encoder": "chunk_conformer",
    "encoder_conf": {"chunk_ms": 160, "left_ms": 640},
    "decoder": "transducer",
    "frontend_conf": {"fs": "16k"},
    "token_list": ["<blank>", "<unk>", "a", "<sos/eos>"],
    "token_type": "bpe",
    "kd_terms": [TERM],
    "train_data_path_and_name_and_type": [
        ["dump/raw/train/wav.scp", "speech", "sound"],
        ["dump/raw/train/text", "text", "text"],
    ],
}
RUN = {
    "name": "train_kd",
    "role": "distilled",
    "seed": 2,
    "config": "conf/train_kd.yaml",
    "command": "python -m espnet2_kd.bin.asr_train --teacher_conf exp=/scratch/me/exp/asr_teacher --config conf/train_kd.yaml",
    "git_hash": "0123abcd",
    "git_dirty": True,
    "versions": {"torch": "2.11.0"},
    "machine": {"cpu": "Some CPU", "cores": 2, "gpu": None},
    "num_parameters": 1_234_567,
    "train_seconds": 3900.0,
    "teacher": "exp/asr_train_teacher_seed2",
}


def spread(*values):
    return Spread(dict(enumerate(values, 1)))


def results():
    rows = (
        Row("teacher", "train_teacher", (1, 2), spread(10.0, 11.0), cer=spread(5.0, 5.5), num_parameters=4_000_000),
        Row("student", "train_nokd", (1, 2), spread(20.0, 22.0), cer=spread(9.0, 9.0), num_parameters=1_234_567),
        Row("distilled", "train_other", (1, 2), spread(1.0, 1.0)),
        Row(
            "distilled",
            "train_kd",
            (1, 2),
            spread(15.5, 16.25),
            cer=spread(7.0, 7.75),
            num_parameters=1_234_567,
            speed={"rtf": spread(0.1, 0.125), "first_token_ms": spread(300.0, 312.4), "chunk_ms": spread(160.0, 160.0)},
        ),
    )
    sets = [Comparison("test", rows, "train_nokd", "utterance", 300, 2000)]
    sets.append(Comparison("hard", (*rows[:2], Row("distilled", "train_kd", (1, 2))), "train_nokd", None, 50, 300))
    return [one.to_dict() for one in sets]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exp = tmp_path / "exp/asr_train_kd_seed2"
    exp.mkdir(parents=True)
    (exp / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (exp / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "decode.yaml").write_text("search: beam\nbeam_size: 4\n")
    (tmp_path / "dump/raw/train").mkdir(parents=True)
    (tmp_path / "dump/raw/train/utt2num_samples").write_text("a 57600000\nb 28800000\n")
    (tmp_path / "results.json").write_text(json.dumps(results()))
    return tmp_path


def card_of(recipe, **more):
    exp = recipe / "exp/asr_train_kd_seed2"
    told = {
        "results": recipe / "results.json",
        "decoding": recipe / "decode.yaml",
        "corpus": "mini",
        "language": "en",
        **more,
    }
    return render_card(describe(exp, 2**21, recipe / "m.zip", **told))


def cells(card, first):
    """The cells of the table's row that begins with this."""
    (line,) = (line for line in card.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_header_is_the_hub_s(recipe):
    card = ModelCard(card_of(recipe, license="cc-by-4.0"))
    data = card.data.to_dict()
    assert (data["language"], data["license"], data["library_name"]) == ("en", "cc-by-4.0", "espnet")
    assert data["pipeline_tag"] == "automatic-speech-recognition" and data["datasets"] == ["mini"]
    assert {"espnet2_kd", "streaming", "knowledge-distillation"} <= set(data["tags"])
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert found == {("test", "wer"): 16.25, ("test", "cer"): 7.75}
    assert card.data.model_name == "asr_train_kd_seed2"
    assert "license" not in ModelCard(card_of(recipe, language="")).data.to_dict()


def test_the_table_has_this_seed_beside_teacher_and_baseline(recipe):
    card = card_of(recipe)
    test, hard = card.split("### hard")
    assert cells(test, "train_teacher")[1:5] == ["teacher", "10.50 ± 0.71", "5.25 ± 0.35", "4.00 M"]
    assert cells(test, "train_nokd")[1:4] == ["student, no distillation", "21.00 ± 1.41", "9.00 ± 0.00"]
    own = ["distilled student", "16.25", "7.75", "1.23 M", "0.125", "312", "-"]
    assert cells(test, "**asr_train_kd_seed2**")[1:] == own
    assert cells(test, "train_kd, all seeds")[2] == "15.88 ± 0.53"
    assert cells(hard, "**asr_train_kd_seed2**")[2] == "not scored"
    assert "train_other" not in card


def test_where_characters_are_compared_words_are_not_shown(recipe):
    known = [one | {"metric": "cer"} for one in results()]
    (recipe / "results.json").write_text(json.dumps(known))
    card = card_of(recipe)
    test, hard = card.split("### hard")
    assert cells(test, "**asr_train_kd_seed2**")[1:4] == ["distilled student", "7.75", "1.23 M"]
    assert cells(hard, "**asr_train_kd_seed2**")[2] == "not scored" and "WER" not in card
    assert {one.metric_type for one in ModelCard(card).data.eval_results} == {"cer"}


def test_what_else_is_known_of_it(recipe):
    card = card_of(recipe)
    for line in (
        "- parameters: 1.23 M",
        "- file of weights: 2.0 MiB",
        "- test, as if live: real-time factor 0.125, chunk 160 ms, first token after 312 ms",
        "- corpus: mini",
        "- speech, copies at other speeds included: 2 utterances, 1.5 hours",
        "- seed: 2 of 1, 2",
        "- teacher: `asr_train_teacher_seed2`",
        "- training time: 1 h 05 min",
        "- git hash of espnet2_kd: `0123abcd` with uncommitted changes",
        "- search when scored: search: beam, beam_size: 4",
        "- license: not stated: ask whoever trained it, and mind that of the corpus",
        'model = from_pretrained("m.zip")',
        "python -m espnet2_kd.bin.asr_train --teacher_conf exp=asr_teacher --config conf/train_kd.yaml",
    ):
        assert f"\n{line}\n" in card
    assert cells(card, "l4") == ["l4", "`encoder.encoders.3`", "`encoder.encoders.3`", "mse, future"]
    assert "encoder, in chunks of 160 ms, distilled from `asr_train_teacher_seed2`" in " ".join(card.split())
    assert "ynthetic" not in card and "/scratch" not in card


def test_synthetic_speech_is_named_as_such(recipe):
    card = card_of(recipe, synthetic=True)
    assert "The speech is synthetic" in card and "- corpus: mini, synthetic speech" in card
    assert "### test: 300 utterances, synthetic speech" in card and "it is not for use on people's" in " ".join(
        card.split()
    )
    (name,) = {one.dataset_name for one in ModelCard(card).data.eval_results}
    assert name == "mini, test (synthetic speech)"


def test_a_model_that_nobody_scored(recipe):
    (recipe / "exp/asr_train_kd_seed2/run.json").unlink()
    card = card_of(recipe, results=recipe / "none.json", decoding=None, corpus="")
    assert "Not scored: its recipe had no report" in card and ModelCard(card).data.eval_results is None
    assert "- parameters: -" in card and "- corpus: not stated" in card


def test_a_classifier_of_intents(recipe):
    accuracy = {"mean": 90.0, "std": 1.0, "values": {"1": 89.0, "2": 91.0}}
    f1 = {"mean": 80.0, "std": None, "values": {"2": 80.0}}
    rows = [
        {"system": "text", "accuracy": {"mean": 99.0, "std": None, "values": {"1": 99.0}}, "slot_f1": None},
        {"system": "intent_none", "accuracy": {**accuracy, "mean": 70.0}, "slot_f1": f1},
        {"system": "asr_train_kd", "accuracy": accuracy, "slot_f1": f1},
    ]
    found = {
        "systems": [
            {"system": "text", "role": "text", "num_parameters": 22_000_000},
            {"system": "intent_none", "role": "student", "num_parameters": 500_000},
            {"system": "asr_train_kd", "role": "distilled", "num_parameters": 500_000},
        ],
        "sets": [{"test_set": "test", "base": "intent_none", "num_utts": 10, "rows": rows}],
    }
    (recipe / "RESULTS.json").write_text(json.dumps(found))
    card = card_of(recipe, kind="intent", results=recipe / "RESULTS.json", decoding=None)
    assert cells(card, "text")[1:] == ["text, from transcripts", "99.00", "-", "22.00 M"]
    assert cells(card, "intent_none")[1:] == ["student, no distillation", "70.00 ± 1.00", "80.00", "0.50 M"]
    assert cells(card, "**asr_train_kd_seed2**")[1:] == ["distilled student", "91.00", "80.00", "0.50 M"]
    data = ModelCard(card).data
    assert data.pipeline_tag == "audio-classification"
    assert [(one.metric_type, one.metric_value) for one in data.eval_results] == [("accuracy", 91.0)]
    assert "espnet2_kd.bin.classify" in card
