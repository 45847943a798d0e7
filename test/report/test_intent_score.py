"""Scores of slots against scikit-learn, scipy and counts written out; labels that do not belong together."""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from matplotlib.image import imread

from espnet2_kd.bin.score_intents import main
from espnet2_kd.data.problems import DataError
from espnet2_kd.report.intent_pairs import SlotPair
from espnet2_kd.report.intent_plots import Curve, confusion_matrix, plot_accuracy, plot_confusions
from espnet2_kd.report.intent_score import Proportion, score_intents, slot_f1

REF = {
    "u1": "drink=latte milk=none size=large",
    "u2": "drink=latte milk=soy size=none",
    "u3": "drink=mocha milk=soy size=small",
    "u4": "drink=mocha milk=none size=none",
    "u5": "drink=tea milk=_none_ size=none",
}
HYP = {
    "u1": "drink=latte milk=none size=large",  # right
    "u2": "drink=mocha milk=soy size=large",  # drink wrong, size invented
    "u3": "drink=latte milk=none size=small",  # drink wrong, milk missed
    "u4": "drink=latte milk=none size=none",  # drink wrong
    "u5": "drink=tea milk=_none_ size=none",  # right
}
FORM = "write name=value for each slot, as intent=flight, with _ for blanks in a value"


@pytest.fixture
def no_pictures(monkeypatch):
    """They take most of the time."""
    monkeypatch.setattr("espnet2_kd.report.intent_score.plot_confusions", lambda *args: None)


def write(folder: Path, name: str, table: dict, order=sorted) -> Path:
    path = folder / name
    path.write_text("".join(f"{utt} {table[utt]}".rstrip() + "\n" for utt in order(table)), encoding="utf-8")
    return path


def score(folder: Path, ref: dict, hyp: dict) -> dict:
    return score_intents(write(folder, "ref", ref), write(folder, "label", hyp), folder / "out")


def refused(folder: Path, ref: dict, hyp: dict) -> list[str]:
    with pytest.raises(DataError) as caught:
        score(folder, ref, hyp)
    assert not (folder / "out/result.json").exists()
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


def random_pairs(seed: int, num: int = 200) -> list[SlotPair]:
    draw = random.Random(seed)
    values = {"action": ["on", "off", "none"], "object": [f"o{n}" for n in range(9)], "place": ["none", "a", "b", "c"]}
    pairs = []
    for n in range(num):
        ref = {slot: draw.choice(options) for slot, options in values.items()}
        hyp = {slot: value if draw.random() < 0.7 else draw.choice(values[slot]) for slot, value in ref.items()}
        pairs.append(SlotPair(f"u{n:03d}", ref, hyp))
    return pairs


def table_of(pairs: list[SlotPair], side: str) -> dict:
    return {pair.utt: " ".join(f"{slot}={value}" for slot, value in getattr(pair, side).items()) for pair in pairs}


def test_counts_written_out(tmp_path, no_pictures):
    result = score(tmp_path, REF, HYP)
    assert result["slots"] == ["drink", "milk", "size"] and result["num_utts"] == 5
    assert (result["exact_match"]["correct"], result["exact_match"]["rate"]) == (2, 0.4)
    assert {slot: rate["correct"] for slot, rate in result["slot_accuracy"].items()} == {
        "drink": 2,
        "milk": 4,
        "size": 4,
    }
    # Present: 5 drinks, 2 milks, 2 sizes; found: 5, 1, 3; right of these: 2, 1, 2.
    f1 = result["slot_f1"]
    assert (f1["num_ref"], f1["num_hyp"], f1["correct"]) == (9, 9, 5)
    assert f1["precision"] == f1["recall"] == f1["f1"] == pytest.approx(5 / 9)
    assert result["confusions"][0] == {"slot": "drink", "ref": "mocha", "hyp": "latte", "count": 2, "total": 2}
    assert [(row["slot"], row["ref"], row["hyp"]) for row in result["confusions"][1:]] == [
        ("drink", "latte", "mocha"),
        ("milk", "soy", "none"),
        ("size", "none", "large"),
    ]
    assert (result["utts"], result["right"]) == (["u1", "u2", "u3", "u4", "u5"], "10001")
    assert result["slot_right"] == {"drink": "10001", "milk": "11011", "size": "10111"}
    assert json.loads((tmp_path / "out/result.json").read_text()) == result


def test_result_for_people(tmp_path, capsys):
    files = (write(tmp_path, "ref", REF), write(tmp_path, "label", HYP))
    main(["--ref", str(files[0]), "--hyp", str(files[1]), "--output_dir", str(tmp_path / "out")])
    lines = (tmp_path / "out/result.txt").read_text().splitlines()
    assert lines[0] == f"5 utterances of {files[0]}; slots: drink, milk, size"
    rows = {line[:11].strip(): line[11:].split() for line in lines[2:7]}
    assert rows["exact match"] == ["2", "5", "40.00", "11.76", "..", "76.93"]
    assert rows["milk"][:3] == ["4", "5", "80.00"]
    assert lines[8].startswith("slot F1 55.56 %, precision 55.56 %, recall 55.56 %: 5 right of 9 slots present and 9")
    assert lines[10] == "most frequent confusions" and lines[12].split() == ["drink", "mocha", "latte", "2", "2"]
    printed = capsys.readouterr().out
    assert printed == f"exact match 40.00 % (11.76 .. 76.93) of 5, slot F1 55.56 %: {tmp_path}/out/result.txt\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"confusion_{slot}.png" for slot in ("drink", "milk", "size")),
        "result.json",
        "result.txt",
    ]


def test_single_intent_is_said_once(tmp_path, no_pictures):
    score(tmp_path, {"a": "intent=x", "b": "intent=y"}, {"a": "intent=x", "b": "intent=y"})
    text = (tmp_path / "out/result.txt").read_text()
    assert "intent " not in text and "exact match" in text and "confusions" not in text


@pytest.mark.parametrize("seed", range(4))
def test_rates_are_scikit_learns(tmp_path, seed, no_pictures):
    pairs = random_pairs(seed)
    result = score(tmp_path, table_of(pairs, "ref"), table_of(pairs, "hyp"))
    flat = [(f"{slot}={pair.ref[slot]}", f"{slot}={pair.hyp[slot]}") for pair in pairs for slot in pair.ref]
    ref, hyp = zip(*flat, strict=True)
    present = sorted(label for label in {*ref, *hyp} if not label.endswith("=none"))
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        ref, hyp, labels=present, average="micro"
    )
    assert [result["slot_f1"][key] for key in ("precision", "recall", "f1")] == pytest.approx([precision, recall, f1])
    for slot in pairs[0].ref:
        values = [[getattr(pair, side)[slot] for pair in pairs] for side in ("ref", "hyp")]
        assert result["slot_accuracy"][slot]["rate"] == pytest.approx(sklearn.metrics.accuracy_score(*values))
        labels, matrix = confusion_matrix(Counter(zip(*values, strict=True)))
        assert labels == sorted({*values[0], *values[1]})
        np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(*values, labels=labels))
    whole = [[" ".join(getattr(pair, side).values()) for pair in pairs] for side in ("ref", "hyp")]
    assert result["exact_match"]["rate"] == pytest.approx(sklearn.metrics.accuracy_score(*whole))
    assert result["right"].count("1") == result["exact_match"]["correct"]


def test_f1_of_nothing_and_of_one_slot():
    assert slot_f1([SlotPair("a", {"x": "none"}, {"x": "_none_"})]).to_dict() == {
        **dict.fromkeys(("num_ref", "num_hyp", "correct"), 0),
        **dict.fromkeys(("precision", "recall", "f1")),
    }
    missed = slot_f1([SlotPair("a", {"x": "y"}, {"x": "none"})])
    assert (missed.precision, missed.recall, missed.f1) == (None, 0.0, 0.0)
    pairs = [SlotPair(str(n), {"x": "y"}, {"x": "z" if n < 3 else "y"}) for n in range(10)]
    assert slot_f1(pairs).f1 == slot_f1(pairs).precision == slot_f1(pairs).recall == 0.7


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 30), (30, 30), (1, 7), (850, 1000), (104, 105)])
def test_wilson_is_scipys(correct, total):
    expected = scipy.stats.binomtest(correct, total).proportion_ci(0.95, "wilson")
    assert Proportion(correct, total).interval() == pytest.approx((expected.low, expected.high), abs=1e-12)
    expected = scipy.stats.binomtest(correct, total).proportion_ci(0.99, "wilson")
    assert Proportion(correct, total).interval(0.99) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_order_of_the_files_does_not_matter(tmp_path, no_pictures):
    write(tmp_path, "ref", REF, order=list)
    write(tmp_path, "label", HYP, order=lambda table: sorted(table, reverse=True))
    result = score_intents(tmp_path / "ref", tmp_path / "label", tmp_path / "out")
    assert (result["utts"], result["right"]) == (sorted(REF), "10001")


def test_every_problem_is_listed(tmp_path):
    hyp = {
        "u1": "drink=latte milk=none size=large",
        "u2": "latte",
        "u3": "milk=none drink=latte size=small",
        "u4": "drink=latte milk=none",
        "u9": "drink=tea milk=none size=none",
    }
    write(tmp_path, "ref", REF)
    path = write(tmp_path, "label", hyp)
    path.write_text(f"{path.read_text()}u1 drink=tea milk=none size=none\n")
    with pytest.raises(DataError) as caught:
        score_intents(tmp_path / "ref", path, tmp_path / "out")
    assert [line.replace(f"{tmp_path}/", "") for line in str(caught.value).splitlines()] == [
        "label:6: u1: id is already on line 1: keep one line for each id",
        f"label:2: u2: label is not name=value ...: 'latte': {FORM}",
        "label:3: u3: label names milk drink size, but drink milk size in ref:1: name the same slots in the same order",
        "label:4: u4: label names drink milk, but drink milk size in ref:1: name the same slots in the same order",
        "label:0: u5: hypothesis is missing: decode it again (its reference is ref:5)",
        "label:5: u9: no such utterance in ref: decode the set that is scored, or remove the line",
        "6 problem(s), 0 warning(s)",
    ]


def test_empty_and_absent_files(tmp_path):
    assert refused(tmp_path, REF, {})[0] == "label:0: -: hypothesis file is empty: decode again"
    assert refused(tmp_path, {}, HYP)[0] == "ref:0: -: reference file is empty: give the file of the set that is scored"
    assert len(refused(tmp_path, {}, {})) == 3
    with pytest.raises(DataError, match="cannot be read"):
        score_intents(tmp_path / "none", tmp_path / "label", tmp_path / "out")


def test_a_failed_scoring_leaves_no_old_result(tmp_path, no_pictures):
    score(tmp_path, REF, HYP)
    assert (tmp_path / "out/result.json").is_file()
    refused(tmp_path, REF, {**HYP, "u1": "drink"})


def test_hashes_follow_the_files(tmp_path, no_pictures):
    first = score(tmp_path, REF, HYP)
    second = score(tmp_path, REF, {**HYP, "u2": REF["u2"]})
    assert first["reference"] == second["reference"] and first["hypothesis"] != second["hypothesis"]
    assert second["exact_match"]["correct"] == 3
    digest = subprocess.run(["sha256sum", tmp_path / "label"], capture_output=True, text=True, check=True).stdout
    assert second["hypothesis"]["sha256"] == digest.split()[0]


def test_pictures_grow_with_the_classes(tmp_path):
    sizes = []
    for num in (1, 30, 64):
        counts = Counter({(f"value_{n}", f"value_{(n + (n % 5 == 0)) % num}"): 3 for n in range(num)})
        plot_confusions(tmp_path / "picture.png", "intent", counts)
        sizes.append(imread(tmp_path / "picture.png").shape[0])
    assert sizes == sorted(sizes) and sizes[-1] > 1.8 * sizes[-2]
    # Rows are told by what is in them: another matrix of the same size is another picture.
    plot_confusions(tmp_path / "other.png", "intent", Counter({(f"value_{n}", f"value_{n}"): 3 for n in range(64)}))
    assert (tmp_path / "other.png").read_bytes() != (tmp_path / "picture.png").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_accuracy_picture_shows_its_numbers(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda *args, **style: None)
    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", lambda self, x, y, bars, **style: drawn.append((y, bars)))
    monkeypatch.setattr("matplotlib.axes.Axes.axhline", lambda self, y, **style: drawn.append((y, style["label"])))
    curves = [
        Curve("text", (), (), (), (95.0, 0.5)),
        Curve("none", (10.0, 0.0), (70.0, 40.0), (1.0, 2.0), (80.0, 0.7)),
        Curve("std", (10.0,), (75.0,), (1.5,), None),
    ]
    plot_accuracy(tmp_path / "picture.png", curves, "title")
    assert drawn == [
        (95.0, "text, clean"),
        ((70.0, 40.0), (1.0, 2.0)),
        ([80.0], [0.7]),
        ((75.0,), (1.5,)),
    ]


def test_the_commands_import_no_torch():
    code = (
        "import sys; from espnet2_kd.bin import score_intents, report_intents; "
        "from espnet2_kd.report import intent_score, intent_results; "
        "print({'torch', 'espnet2', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_several_sets_at_once(tmp_path, capsys):
    files = [str(write(tmp_path, "ref", REF)), str(write(tmp_path, "label", HYP))]
    outs = [str(tmp_path / "one"), str(tmp_path / "two")]
    main(["--ref", files[0], files[0], "--hyp", files[1], files[0], "--output_dir", *outs])
    rights = [json.loads((tmp_path / name / "result.json").read_text())["right"] for name in ("one", "two")]
    assert rights == ["10001", "11111"]
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(SystemExit):
        main(["--ref", *files, "--hyp", files[0], "--output_dir", *outs])
