"""The report of intent classifiers on experiments made up here; every number is worked out again from their labels."""

import json
import math
import os
import random
import re
import shutil
import statistics
import time
from pathlib import Path

import pytest
import scipy.stats
from matplotlib.image import imread

from espnet2_kd.bin.report_intents import main
from espnet2_kd.data.problems import DataError
from espnet2_kd.report.intent_conditions import Condition, read_conditions
from espnet2_kd.report.intent_plots import plot_accuracy
from espnet2_kd.report.intent_score import score_intents

TAG = "classify_valid.acc.ave"
# Seeds, how often a slot is wrong, parameters.
SYSTEMS = {
    "text_bert": ((1, 2), 0.02, 109_000_000),
    "intent_train_gru": ((1, 2, 3), 0.18, 400_000),
    "intent_train_none": ((1, 2, 3), 0.16, 7_490_000),
    "intent_train_std": ((1, 2, 3), 0.05, 7_490_000),
}
SETS = {"test": 0.0, "test_babble_0db": 0.3, "test_babble_10db": 0.1, "test_white_-5db": 0.4}
VALUES = {"drink": ["latte", "mocha", "tea"], "milk": ["none", "soy", "cream"]}
UTTS = [f"spk{n % 7}-u{n:03d}" for n in range(120)]


def label(slots: dict) -> str:
    return " ".join(f"{slot}={value}" for slot, value in slots.items())


def reference(utt: str) -> dict:
    draw = random.Random(utt)
    return {slot: draw.choice(values) for slot, values in VALUES.items()}


def recognised(utt: str, name: str, seed: int, rate: float) -> dict:
    draw = random.Random(f"{utt}{name}{seed}")
    # Whether an utterance is hard is the same for all, so that systems and seeds are wrong together.
    hard = random.Random(f"hard{utt}").choice((0.3, 1.7))
    return {
        slot: draw.choice(VALUES[slot]) if draw.random() < rate * hard else value
        for slot, value in reference(utt).items()
    }


def write(path: Path, table: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{utt} {label(slots)}\n" for utt, slots in table.items()))


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Recognised and scored systems, made once."""
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("espnet2_kd.report.intent_score.plot_confusions", lambda *args: None)
        for test_set in SETS:
            write(Path(f"dump/raw/{test_set}/label"), {utt: reference(utt) for utt in UTTS})
        for name, (seeds, rate, _size) in SYSTEMS.items():
            for seed in seeds:
                for test_set, more in SETS.items():
                    if name == "text_bert" and test_set != "test":
                        continue
                    out = Path(f"exp/{name}_seed{seed}/{TAG}/{test_set}")
                    write(out / "label", {utt: recognised(utt, name, seed, rate + more) for utt in UTTS})
                    score_intents(f"dump/raw/{test_set}/label", out / "label", out)
                    os.utime(out / "result.json", (1_700_000_000, 1_700_000_000))
    Path(folder, "exp/intent_stats_raw/train").mkdir(parents=True)
    return folder


def draw_nothing(path: Path, *args) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def recipe(scored, tmp_path, monkeypatch):
    """A recipe directory with these systems as trained there; the working directory of the test.

    Pictures are empty files, as they take most of the time.
    """
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("espnet2_kd.report.intent_score.plot_confusions", draw_nothing)
    monkeypatch.setattr("espnet2_kd.report.intent_results.plot_accuracy", draw_nothing)
    for name, (seeds, _rate, size) in SYSTEMS.items():
        for seed in seeds:
            known = {
                "command": f"{tmp_path}/venv/bin/python3.11 -m espnet2_kd.bin.intent_train --seed {seed}",
                "git_hash": "0123456789abcdef",
                "git_date": "2026-01-02T03:04:05+00:00",
                "git_dirty": False,
                "versions": {"python": "3.11.4", "torch": "2.11.0", "espnet": "202511"},
                "machine": {"cpu": "Test CPU", "cores": 2, "gpu": None},
                "num_parameters": size,
            }
            exp = Path(f"exp/{name}_seed{seed}")
            if name == "text_bert":
                epochs = [{"epoch": n, "seconds": 100.0} for n in range(1, 4)]
                write_json(exp / "train.json", {**known, "options": {"seed": seed}, "epochs": epochs})
            else:
                role = "distilled" if name.endswith("std") else "student"
                more = {
                    "name": "x",
                    "role": role,
                    "seed": seed,
                    "config": "conf/x.yaml",
                    "train_seconds": 4000.0 + seed,
                }
                write_json(exp / "run.json", {**known, **more})
    return tmp_path


def write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values))


def change_json(path: str, **values) -> None:
    write_json(Path(path), {**json.loads(Path(path).read_text()), **values})


def report(*options: str, exp_dirs: str = "exp/intent_* exp/text_*", test_sets: str = " ".join(SETS)) -> str:
    main(["--exp_dirs", exp_dirs, "--tag", TAG, "--test_sets", test_sets, *options])
    return Path("RESULTS.md").read_text(encoding="utf-8")


def tables(text: str) -> dict[str, list[list[str]]]:
    """The rows of the table under every heading, header first."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and not line.startswith("| :"):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def labels(name: str, seed: int, test_set: str) -> dict:
    lines = Path(f"exp/{name}_seed{seed}/{TAG}/{test_set}/label").read_text().splitlines()
    return {utt: dict(pair.split("=") for pair in pairs) for utt, *pairs in map(str.split, lines)}


def right(name: str, seed: int, test_set: str) -> list[bool]:
    found = labels(name, seed, test_set)
    return [found[utt] == reference(utt) for utt in UTTS]


def rates(name: str, test_set: str) -> list[float]:
    return [100 * statistics.mean(right(name, seed, test_set)) for seed in SYSTEMS[name][0]]


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def marked(p: float) -> str:
    stars = "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else "n.s."
    return f"{'< 0.001' if p < 0.001 else f'{p:.3f}'} {stars}"


def sign_p(differences: list[int]) -> float:
    """Distribution of the sum of signed differences, one utterance after the other."""
    total, sums = abs(sum(differences)), {0: 1.0}
    for size in map(abs, differences):
        grown: dict[int, float] = {}
        for value, p in sums.items():
            for sign in (-size, size):
                grown[value + sign] = grown.get(value + sign, 0.0) + p / 2
        sums = grown
    return sum(p for value, p in sums.items() if abs(value) >= total)


def test_accuracy_of_every_cell(recipe):
    found = tables(report("--baseline", "intent_train_none"))
    assert found["test, babble noise"][0] == ["system", "clean", "10 dB", "0 dB"]
    assert found["test, white noise"][0] == ["system", "clean", "-5 dB"]
    for noise, sets in (("babble", ["test_babble_10db", "test_babble_0db"]), ("white", ["test_white_-5db"])):
        rows = {row[0]: row[1:] for row in found[f"test, {noise} noise"][1:]}
        assert list(rows) == ["text_bert", "intent_train_gru", "intent_train_none", "intent_train_std"]
        for name, cells in rows.items():
            text = name == "text_bert"
            assert cells == [
                spread(rates(name, "test")),
                *("-" if text else spread(rates(name, test_set)) for test_set in sets),
            ]


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_changes_and_their_significance(recipe):
    text = report("--baseline", "intent_train_none")
    rows = tables(text)["test, change against intent_train_none"]
    assert [row[:2] for row in rows[1:5]] == [
        ["test", "text_bert"],
        ["test", "intent_train_gru"],
        ["test", "intent_train_std"],
        ["test_babble_10db", "intent_train_gru"],
    ]
    assert len(rows) == 1 + 3 + 3 * 2
    for test_set, name, seeds, points, interval, seeds_p, counts, utterances_p in rows[1:]:
        common = SYSTEMS[name][0]
        assert seeds == ", ".join(map(str, common))
        here, there = ([right(system, seed, test_set) for seed in common] for system in (name, "intent_train_none"))
        means = [[100 * statistics.mean(seed) for seed in system] for system in (here, there)]
        difference = statistics.mean(means[0]) - statistics.mean(means[1])
        assert points == f"{difference:+.2f}"
        pairs = [list(zip(*seed, strict=True)) for seed in zip(here, there, strict=True)]
        assert counts == ", ".join(f"{seed.count((False, True))}:{seed.count((True, False))}" for seed in pairs)
        sums = [[sum(seed[n] for seed in system) for n in range(len(UTTS))] for system in (here, there)]
        assert utterances_p == marked(sign_p([a - b for a, b in zip(*sums, strict=True)]))
        assert seeds_p == marked(scipy.stats.ttest_ind(*means, equal_var=False).pvalue)
        low, high = map(float, re.findall(r"[+-][\d.]+", interval))
        assert low < difference < high
    assert "***" in next(row for row in rows if row[:2] == ["test", "intent_train_std"])[-1]
    assert "n.s." in next(row for row in rows if row[:2] == ["test", "intent_train_gru"])[-1]


def test_slots(recipe):
    rows = tables(report())["test, slots"]
    assert rows[0] == ["set", "system", "slot F1 %", "drink", "milk"]
    assert len(rows) == 1 + 4 + 3 * 3
    for test_set, name, f1, *slots in rows[1:]:
        by_seed = [labels(name, seed, test_set) for seed in SYSTEMS[name][0]]
        expected = []
        for found in by_seed:
            pairs = [(reference(utt)[slot], found[utt][slot]) for utt in UTTS for slot in VALUES]
            correct = sum(ref == hyp != "none" for ref, hyp in pairs)
            expected.append(200 * correct / sum((ref != "none") + (hyp != "none") for ref, hyp in pairs))
        assert f1 == spread(expected)
        for slot, cell in zip(VALUES, slots, strict=True):
            accuracies = [
                100 * statistics.mean(found[u][slot] == reference(u)[slot] for u in UTTS) for found in by_seed
            ]
            assert cell == spread(accuracies)


def test_systems_and_provenance(recipe):
    text = report("--title", "Results of barista")
    assert text.startswith("<!-- Generated by espnet2_kd.bin.report_intents. Do not edit")
    assert "# Results of barista\n" in text and "## test: 120 utterances\n" in text
    rows = tables(text)["Systems"]
    assert rows[1] == ["text_bert", "text", "1, 2", "109.00 M", "5 min", "-"]
    assert rows[3] == ["intent_train_none", "speech, no distillation", "1, 2, 3", "7.49 M", "1 h 07 min", "conf/x.yaml"]
    assert rows[4][1] == "speech, distilled"
    environment = text[text.index("## Environments") : text.index("## Training commands")].split("\n")
    assert environment[2:9] == [
        "- date: `Tue Nov 14 22:13:20 UTC 2023`",
        "- python version: `3.11.4`",
        "- espnet2 version: `espnet 202511`",
        "- pytorch version: `pytorch 2.11.0`",
        "- Git hash: `0123456789abcdef`",
        "  - Commit date: `2026-01-02T03:04:05+00:00`",
        "- machine: `Test CPU, 2 cores, GPU: none`",
    ]
    assert "speech, distilled, intent_train_std:\n\n```sh\npython -m espnet2_kd.bin.intent_train --seed 1\n" in text
    assert str(recipe) not in text
    result = json.loads(Path(f"exp/intent_train_std_seed2/{TAG}/test/result.json").read_text())
    count = sum(right("intent_train_std", 2, "test"))
    bounds = scipy.stats.binomtest(count, 120).proportion_ci(0.95, "wilson")
    assert tables(text)["exp/intent_train_std_seed2"][1] == [
        *(f"{TAG}/test", "120", str(count), f"{count / 1.2:.2f}"),
        f"{100 * bounds.low:.2f} .. {100 * bounds.high:.2f}",
        f"{100 * result['slot_f1']['f1']:.2f}",
    ]
    assert report("--title", "Results of barista") == text


def test_numbers_for_programs_and_pictures(recipe, capsys, monkeypatch):
    monkeypatch.setattr("espnet2_kd.report.intent_results.plot_accuracy", plot_accuracy)
    report("--json", "exp/report/results.json", "--baseline", "intent_train_none")
    saved = json.loads(Path("exp/report/results.json").read_text())
    assert [(part["test_set"], part["noise"], part["snr_db"]) for part in saved["sets"]] == [
        ("test", None, None),
        ("test_babble_10db", "babble", 10),
        ("test_babble_0db", "babble", 0),
        ("test_white_-5db", "white", -5),
    ]
    row = saved["sets"][1]["rows"][3]
    assert row["accuracy"]["values"] == pytest.approx(
        dict(zip("123", rates("intent_train_std", "test_babble_10db"), strict=True))
    )
    for seed, test in row["change"]["by_seed"].items():
        here, there = (right(name, int(seed), "test_babble_10db") for name in ("intent_train_std", "intent_train_none"))
        won = sum(a and not b for a, b in zip(here, there, strict=True))
        lost = sum(b and not a for a, b in zip(here, there, strict=True))
        tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
        assert (test["won"], test["lost"], test["p"]) == (won, lost, pytest.approx(min(1.0, 2 * tail)))
    assert saved["systems"][0]["num_parameters"] == 109_000_000
    assert saved["sets"][1]["rows"][0] == {
        **{"system": "text_bert", "state": "no noise", "slots": {}},
        **dict.fromkeys(("accuracy", "slot_f1", "change")),
    }
    names = ["accuracy_babble.png", "accuracy_white.png"]
    assert sorted(path.name for path in Path("exp/report").iterdir()) == [*names, "results.json"]
    assert all(imread(Path("exp/report") / name).std() > 0.05 for name in names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "test, babble noise, exact match %" and printed[-1] == "report: RESULTS.md"
    assert printed[2].split()[0] == "text_bert" and printed[2].split()[-2:] == ["-", "-"]


def test_without_noise_there_is_one_table(recipe):
    text = report(test_sets="test", exp_dirs="exp/intent_train_none_seed1 exp/intent_train_std_seed1")
    found = tables(text)
    assert found["test"][1:] == [
        [name, f"{rates(name, 'test')[0]:.2f}"] for name in ("intent_train_none", "intent_train_std")
    ]
    assert sorted(path.name for path in Path("exp/report").iterdir()) == ["results.json"]
    row = found["test, change against intent_train_none"][1]
    assert row[2] == "1" and row[4:6] == ["-", "-"]
    here, there = (right(name, 1, "test") for name in ("intent_train_std", "intent_train_none"))
    won, lost = sum(a > b for a, b in zip(here, there)), sum(a < b for a, b in zip(here, there))
    assert row[6] == f"{lost}:{won}" and row[7] == marked(scipy.stats.binomtest(won, won + lost).pvalue)


def test_what_was_not_run_is_said(recipe):
    Path(f"exp/intent_train_gru_seed2/{TAG}/test_babble_10db/result.json").unlink()
    for seed in (1, 2, 3):
        Path(f"exp/intent_train_std_seed{seed}/{TAG}/test_babble_0db/result.json").unlink()
        for name in ("label", "result.json", "result.txt"):
            Path(f"exp/intent_train_gru_seed{seed}/{TAG}/test_white_-5db/{name}").unlink()
    text = report(
        exp_dirs="exp/text_bert_seed1 exp/intent_* exp/intent_train_other_seed1", test_sets=" ".join([*SETS, "far"])
    )
    found = tables(text)
    rows = {row[0]: row[1:] for row in found["test, babble noise"]}
    first, third = (100 * statistics.mean(right("intent_train_gru", seed, "test_babble_10db")) for seed in (1, 3))
    assert rows["intent_train_gru"][1] == f"{spread([first, third])} (seed 1, 3)"
    assert rows["intent_train_std"][2] == "not scored"
    assert rows["intent_train_other"] == ["not run"] * 3
    assert rows["text_bert"] == [f"{rates('text_bert', 'test')[0]:.2f}", "-", "-"]
    assert {row[0]: row[2] for row in found["test, white noise"]}["intent_train_gru"] == "not run"
    assert [row[1] for row in found["far"][1:]] == ["not run"] * 5
    assert "Asked for, but not run:\n\n- exp/intent_train_other_seed1\n" in text
    assert json.loads(Path("exp/report/results.json").read_text())["missing"] == ["exp/intent_train_other_seed1"]


def test_seeds_in_common(recipe):
    assert "not compared" not in report("--baseline", "text_bert")
    for seed in (1, 2):
        Path(f"exp/text_bert_seed{seed}").rename(f"exp/text_bert_seed{seed + 6}")
    text = report("--baseline", "intent_train_none")
    assert "- text_bert: not compared, as intent_train_none has no such seed.\n" in text
    assert "text_bert" not in {row[1] for row in tables(text)["test, change against intent_train_none"]}


def test_baseline(recipe):
    # Without one named, the first that was not distilled.
    assert "change against intent_train_gru" in report()
    with pytest.raises(DataError, match="no system is called intent_x: one of: text_bert, intent_train_gru"):
        report("--baseline", "intent_x")


def test_stale_results_are_refused(recipe):
    labels_file = Path(f"exp/intent_train_std_seed1/{TAG}/test/label")
    write(labels_file, {utt: reference(utt) for utt in UTTS})
    Path(f"exp/intent_train_std_seed2/{TAG}/test/label").unlink()
    change_json(f"exp/intent_train_std_seed3/{TAG}/test/result.json", right=None)
    broken = Path(f"exp/intent_train_gru_seed1/{TAG}/test/result.json")
    write_json(broken, {"num_utts": 3})
    write(Path("dump/raw/test_white_-5db/label"), {utt: reference(utt) for utt in UTTS[1:]})
    with pytest.raises(DataError) as caught:
        report(test_sets="test test_white_-5db")
    lines = str(caught.value).splitlines()
    remedy = "score again: python -m espnet2_kd.bin.score_intents"
    assert f"exp/intent_train_std_seed1/{TAG}/test/result.json:0: -: {labels_file} has changed since: {remedy}" in lines
    gone = Path(f"exp/intent_train_std_seed2/{TAG}/test")
    assert f"{gone}/result.json:0: -: there is no {gone}/label that it could belong to: {remedy}" in lines
    assert any(line.startswith(f"{broken}:0: -: is no result of scoring, as exact_match, ") for line in lines)
    assert sum("dump/raw/test_white_-5db/label has changed since" in line for line in lines) == 9
    assert not Path("RESULTS.md").exists()
    # Scored again it counts, and the numbers are those of the new labels.
    for seed in (2, 3):
        write(Path(f"exp/intent_train_std_seed{seed}/{TAG}/test/label"), {utt: reference(utt) for utt in UTTS})
    for name in ("intent_train_std", "intent_train_gru"):
        for seed in (1, 2, 3):
            out = Path(f"exp/{name}_seed{seed}/{TAG}/test")
            score_intents("dump/raw/test/label", out / "label", out)
    rows = {row[0]: row[1] for row in tables(report(test_sets="test"))["test"]}
    assert rows["intent_train_std"] == "100.00 ± 0.00" and rows["intent_train_gru"] == spread(
        rates("intent_train_gru", "test")
    )


def test_another_version_of_a_set_is_refused(recipe):
    write(Path("other/label"), {utt: reference(utt) for utt in UTTS[1:]})
    out = Path(f"exp/intent_train_std_seed1/{TAG}/test")
    write(out / "label", {utt: reference(utt) for utt in UTTS[1:]})
    score_intents("other/label", out / "label", out)
    with pytest.raises(DataError) as caught:
        report()
    what = "scored against another version of the set than elsewhere: decode and score the systems on the same set"
    assert str(caught.value).splitlines() == [f"{out}/result.json:0: -: {what}", "1 problem(s), 0 warning(s)"]


def test_names_and_seeds_are_checked(recipe):
    with pytest.raises(DataError, match="no directory <system>_seed<number>"):
        report(exp_dirs="exp/none*")
    with pytest.raises(DataError, match=r"exp/intent_stats_raw:0: -: experiment has no seed in its name"):
        report(exp_dirs="exp/intent_stats_raw")
    change_json("exp/intent_train_std_seed1/run.json", seed=4)
    with pytest.raises(DataError, match="seed is 4, but the directory's name says 1"):
        report()
    change_json("exp/intent_train_std_seed1/run.json", seed=1)
    Path("exp2").mkdir()
    Path("exp/intent_train_std_seed2").rename("exp2/intent_train_std_seed1")
    change_json("exp2/intent_train_std_seed1/run.json", seed=1)
    with pytest.raises(DataError, match="seed 1 of intent_train_std is also exp/intent_train_std_seed1: report one"):
        report(exp_dirs="exp/intent_* exp2/*")


def test_training_nobody_wrote_down(recipe):
    for seed in (1, 2):
        Path(f"exp/text_bert_seed{seed}/train.json").unlink()
    Path("exp/text_bert_seed1/run.sh").write_text(
        f"#!/usr/bin/env bash\n# Goes on with this training.\ncd {recipe} && {recipe}/venv/bin/python3 -m "
        f'espnet2_kd.bin.train_text_intents --output_dir exp/text_bert_seed1 "$@"\n'
    )
    text = report()
    assert (
        "text, text_bert:\n\n```sh\npython -m espnet2_kd.bin.train_text_intents --output_dir exp/text_bert_seed1\n```"
        in text
    )
    assert "Command unknown:\n\n- exp/text_bert_seed2\n" in text
    assert tables(text)["Systems"][1] == ["text_bert", "text", "1, 2", "-", "-", "-"]


def test_synthetic_speech_and_dirty_checkouts_are_labelled(recipe, capsys):
    change_json("exp/intent_train_std_seed2/run.json", git_dirty=True, git_hash="fedcba")
    text = report("--synthetic", "true")
    assert (
        f"# {Path.cwd().parent.name} (synthetic speech)\n" in text
        and "## test, synthetic speech: 120 utterances" in text
    )
    assert capsys.readouterr().out.startswith("test, babble noise, exact match % (synthetic speech)\n")
    assert [row[0] for row in tables(text)["test, babble noise"]][-1] == "intent_train_std †"
    assert "† Trained from a checkout with uncommitted changes." in text
    assert "- exp/intent_train_std_seed2: `fedcba` with uncommitted changes\n" in text
    assert "synthetic" not in report()


def test_conditions_are_read_from_names():
    found = read_conditions("test_babble_0db test test_babble_10db far far_street_cafe_2.5db test far_10db".split())
    assert found == [
        Condition("test", "test"),
        Condition("test_babble_10db", "test", "babble", 10.0),
        Condition("test_babble_0db", "test", "babble", 0.0),
        Condition("far", "far"),
        Condition("far_street_cafe_2.5db", "far", "street_cafe", 2.5),
        Condition("far_10db", "far_10db"),
    ]
    assert [condition.label for condition in found[:2]] == ["clean", "10 dB"]
    # A copy whose original was not asked for, and a set whose name begins with that of another.
    assert read_conditions(["test_white_-5db"]) == [Condition("test_white_-5db", "test", "white", -5.0)]
    assert read_conditions(["test", "test_far", "test_far_white_5db"])[2].clean == "test_far"


def test_several_sets_have_their_own_pictures(recipe):
    for exp in sorted(Path("exp").glob("intent_train_*")):
        for end in ("", "_babble_10db"):
            out = exp / TAG / f"valid{end}"
            write(out / "label", labels(*exp.name.rsplit("_seed", 1), f"test{end}"))
            score_intents("dump/raw/test/label", out / "label", out)
    report(test_sets="test test_babble_10db valid valid_babble_10db")
    names = [path.name for path in Path("exp/report").glob("*.png")]
    assert sorted(names) == ["accuracy_test_babble.png", "accuracy_valid_babble.png"]


def test_quick(recipe):
    started = time.process_time()
    report(test_sets="test")
    assert time.process_time() - started < 2
