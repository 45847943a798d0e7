"""The report on an experiment tree made up here; every printed number is worked out again from the made-up files."""

import json
import os
import random
import re
import shutil
import statistics
from pathlib import Path

import jiwer
import pytest

from espnet2_kd.bin.report import main
from espnet2_kd.data.problems import DataError
from espnet2_kd.report.environment import relative_command
from espnet2_kd.report.markdown import columns, table, width
from espnet2_kd.report.sclite import DEBIAN_FOLDER
from espnet2_kd.report.score import score_set
from espnet2_kd.report.significance import mapsswe

pytestmark = pytest.mark.skipif(
    shutil.which("sclite") is None and shutil.which("sclite", path=str(DEBIAN_FOLDER)) is None,
    reason="sclite is not installed",
)
TAG = "decode_decode_valid.loss_transducer.ave"
SYSTEMS = {
    "train_teacher": ("teacher", (1,), 0.05, 8_000_000),
    "train_student_nokd": ("student", (1, 2, 3), 0.25, 1_234_567),
    "train_kd_aux": ("distilled", (1, 2, 3), 0.12, 1_234_567),
    "train_kd_token": ("distilled", (1, 3), 0.27, 1_234_567),
}
REF = {f"u{n:03d}": " ".join(random.Random(n).choices("abcdefgh", k=4 + n % 5)) for n in range(120)}


def stream(seed: int, offline: bool) -> dict:
    return {
        "rtf": 0.05 + 0.01 * seed,
        "first_token_ms": {"mean": 300.0 + 20 * seed, "p50": 280.0, "p90": 500.0 + 10 * seed},
        "first_token_from": "first_word_end",
        "emission_delay_ms": None if offline else {"mean": 100.0 + 7 * seed, "p50": 90.0, "p90": 260.0},
        "chunk_ms": None if offline else 160,
        "num_utts": 120,
        "mode": "offline" if offline else "streaming",
    }


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Decoded and scored systems, made once."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "ref").write_text("".join(f"{utt} {text}\n" for utt, text in REF.items()))
    (folder / "utt2spk").write_text("".join(f"{utt} s{int(utt[1:]) % 6}\n" for utt in REF))
    for name, (role, seeds, rate, _) in SYSTEMS.items():
        for seed in seeds:
            out = folder / f"exp/asr_{name}_seed{seed}" / TAG / "test"
            out.mkdir(parents=True)
            draw = random.Random(f"{name}{seed}")
            hyp = {
                utt: " ".join(draw.choice("abcdefgh") if draw.random() < rate else word for word in text.split())
                for utt, text in REF.items()
            }
            (out / "text").write_text("".join(f"{utt} {text}\n" for utt, text in hyp.items()))
            score_set(folder / "ref", out / "text", folder / "utt2spk", out)
            os.utime(out / "score.json", (1_700_000_000, 1_700_000_000))
            (out / "stream.json").write_text(json.dumps(stream(seed, role == "teacher")))
    (folder / "exp/asr_stats_raw_char/train").mkdir(parents=True)
    return folder


@pytest.fixture
def recipe(scored, tmp_path, monkeypatch):
    """A recipe directory with these systems as trained there; the working directory of the test."""
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name, (role, seeds, _, size) in SYSTEMS.items():
        for seed in seeds:
            exp = tmp_path / f"exp/asr_{name}_seed{seed}"
            run = {
                "name": name,
                "role": role,
                "seed": seed,
                "config": f"conf/{name}.yaml",
                "command": f"{tmp_path}/venv/bin/python3.11 -m espnet2_kd.bin.asr_train --seed {seed} "
                f"--output_dir {exp} --kd_terms '[{{name: a b}}]'",
                "git_hash": "0123456789abcdef",
                "git_date": "2026-01-02T03:04:05+00:00",
                "git_dirty": False,
                "versions": {"python": "3.11.4", "torch": "2.11.0", "espnet": "202511"},
                "machine": {"cpu": "Test CPU", "cores": 2, "gpu": None},
                "num_parameters": size,
                "train_seconds": 4000.0 + seed,
                "teacher": None,
            }
            (exp / "run.json").write_text(json.dumps(run))
    return tmp_path


def report(*options: str, exp_dirs: str = "exp/asr_*", test_sets: str = "test") -> str:
    main(["--exp_dirs", exp_dirs, "--inference_tag", TAG, "--test_sets", test_sets, *options])
    return Path("RESULTS.md").read_text(encoding="utf-8")


def change_run(recipe: Path, exp: str, **values) -> None:
    path = recipe / "exp" / exp / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rows_of(text: str, header: str) -> dict[str, list[str]]:
    """Cells of the first table whose header starts so, by first cell (`role` where that is `-`)."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(header))
    next(lines)
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[1] if cells[0] == "-" else cells[0]] = cells
    return rows


def expected_wer(name: str) -> list[float]:
    """Rates by jiwer; substitutions alone were made up, so sclite must agree."""
    rates = []
    for seed in SYSTEMS[name][1]:
        lines = Path(f"exp/asr_{name}_seed{seed}/{TAG}/test/text").read_text().splitlines()
        hyp = dict(line.split(maxsplit=1) for line in lines)
        rates.append(100 * jiwer.wer(list(REF.values()), [hyp[utt] for utt in REF]))
    return rates


def test_every_number(recipe, capsys):
    text = report()
    accuracy = rows_of(text, "| system             | role                     |   seeds")
    assert list(accuracy) == ["train_teacher", "train_student_nokd", "train_kd_aux", "train_kd_token"]
    base = expected_wer("train_student_nokd")
    for name, (_role, seeds, _rate, _size) in SYSTEMS.items():
        rates = expected_wer(name)
        cells = accuracy[name]
        assert cells[2] == ", ".join(map(str, seeds))
        std = f" ± {statistics.stdev(rates):.2f}" if len(rates) > 1 else ""
        assert cells[3] == f"{statistics.mean(rates):.2f}{std}"
        assert cells[4] == ", ".join(f"{rate:.2f}" for rate in rates)
        if name == "train_student_nokd":
            assert cells[6:] == ["base", "-", "-"]
            continue
        paired = statistics.mean(base[seed - 1] for seed in seeds)
        assert cells[6] == f"{100 * (statistics.mean(rates) / paired - 1):+.1f} %"
        low, high = (float(bound) for bound in re.findall(r"[+-][\d.]+", cells[7]))
        assert low < 100 * (statistics.mean(rates) / paired - 1) < high
        folders = [
            {seed: Path(f"exp/asr_{system}_seed{seed}/{TAG}/test/score_wer") for seed in seeds}
            for system in ("train_student_nokd", name)
        ]
        p = mapsswe(*folders).p
        stars = "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else "n.s."
        assert cells[8] == f"{'< 0.001' if p < 0.001 else f'{p:.3f}'} {stars}"
    assert "***" in accuracy["train_kd_aux"][8] and "n.s." in accuracy["train_kd_token"][8]
    cost = rows_of(text, "| system             | role                     | parameters")
    assert cost["train_teacher"][2:] == ["8.00 M", "offline", "-", "0.060", "320 (510)", "-", "1 h 07 min"]
    assert cost["train_kd_aux"][2:] == ["1.23 M", "streaming", "160", "0.070", "340 (520)", "114 (260)", "1 h 07 min"]
    assert "- train_kd_token: seed 1, 3 only, not 2; compared with the same of train_student_nokd." in text
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "test" and printed[-1] == "report: RESULTS.md"
    numbers = f"{expected_wer('train_teacher')[0]:.1f} 8.00 M 0.060 320 -"
    assert printed[2].split() == ["teacher", "(train_teacher)", *numbers.split()]
    saved = json.loads(Path("exp/report/results.json").read_text())[0]
    assert [row["name"] for row in saved["rows"]] == list(accuracy)
    assert saved["rows"][2]["wer"]["values"] == pytest.approx(
        dict(zip("123", expected_wer("train_kd_aux"), strict=True))
    )
    change = saved["rows"][2]["change"]
    assert change["mapsswe_z"] > 3 and change["seeds"] == [1, 2, 3] and change["base"] == "train_student_nokd"
    assert saved["num_utts"] == 120 and saved["num_units"] == sum(len(text.split()) for text in REF.values())


def test_form_that_users_know(recipe):
    text = report("--title", "Results of mini")
    assert text.startswith("<!-- Generated by espnet2_kd.bin.report. Do not edit")
    assert "# Results of mini\n" in text
    environment = text[text.index("## Environments") : text.index("## Training")].split("\n")
    assert environment[2:9] == [
        "- date: `Tue Nov 14 22:13:20 UTC 2023`",
        "- python version: `3.11.4`",
        "- espnet2 version: `espnet 202511`",
        "- pytorch version: `pytorch 2.11.0`",
        "- Git hash: `0123456789abcdef`",
        "  - Commit date: `2026-01-02T03:04:05+00:00`",
        "- machine: `Test CPU, 2 cores, GPU: none`",
    ]
    scores = json.loads(Path(f"exp/asr_train_kd_aux_seed2/{TAG}/test/score.json").read_text())
    section = text[text.index("## exp/asr_train_kd_aux_seed2") :]
    for metric in ("wer", "cer"):
        row = scores[metric]
        rates = "|".join(str(row[key]) for key in ("corr", "sub", "del", "ins", "err", "s_err"))
        standard = f"### {metric.upper()}\n\n|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n{'|---' * 9}|\n"
        assert f"{standard}|{TAG}/test|120|{row['wrd']}|{rates}|\n" in section
    command = (
        "python -m espnet2_kd.bin.asr_train --seed 2 --output_dir exp/asr_train_kd_aux_seed2 --kd_terms '[{name: a b}]'"
    )
    assert command in text and str(recipe) not in text
    assert report("--title", "Results of mini") == text


def test_missing_rows_are_not_run(recipe, capsys):
    text = report(exp_dirs="exp/asr_train_student_nokd_seed1 exp/asr_train_kd_aux_seed9")
    rows = rows_of(text, "| system")
    assert rows["teacher"][:4] == ["-", "teacher", "-", "not run"]
    assert rows["distilled student"][:4] == ["-", "distilled student", "-", "not run"]
    assert "Asked for, but not run:\n\n- exp/asr_train_kd_aux_seed9\n" in text
    assert [line.split()[-6:-4] for line in capsys.readouterr().out.splitlines() if "not run" in line] != []
    unscored = report(test_sets="test other")
    assert rows_of(unscored[unscored.index("## other") :], "| system")["train_kd_aux"][3] == "not scored"


def test_without_a_student_nothing_is_compared(recipe):
    rows = rows_of(report(exp_dirs="exp/asr_train_teacher* exp/asr_train_kd_aux*"), "| system")
    assert rows["student, no distillation"][3] == "not run"
    assert rows["train_kd_aux"][6:] == ["-", "-", "-"]


def test_no_common_seed_is_said(recipe):
    shutil.rmtree("exp/asr_train_student_nokd_seed1")
    text = report()
    assert "- train_teacher: seed 1 only, not 2, 3; not compared, as train_student_nokd has no such seed." in text
    assert rows_of(text, "| system")["train_teacher"][6:] == ["-", "-", "-"]


def test_another_base(recipe):
    rows = rows_of(report("--baseline", "train_kd_aux"), "| system")
    assert rows["train_kd_aux"][6] == "base" and rows["train_student_nokd"][6].startswith("+")
    with pytest.raises(DataError, match="no system is called train_x: one of: train_teacher, train_student_nokd"):
        report("--baseline", "train_x")


def test_synthetic_speech_is_labelled(recipe, capsys):
    text = report("--synthetic", "true")
    assert (
        f"# {Path.cwd().parent.name} (synthetic speech)\n" in text
        and "## test, synthetic speech: 120 utterances" in text
    )
    assert all("(synthetic)" in cells[1] for cells in rows_of(text, "| system").values())
    assert "(synthetic speech)\n\n### WER" in text
    assert capsys.readouterr().out.startswith("test (synthetic speech)\n")
    assert "synthetic" not in report()


def test_different_commits_and_dirty_checkouts_are_listed(recipe):
    change_run(recipe, "asr_train_kd_aux_seed2", git_hash="fedcba", git_dirty=True)
    text = report()
    assert "- Git hash: `0123456789abcdef, fedcba`" in text
    assert "The systems were trained from different commits:" in text
    assert "- exp/asr_train_kd_aux_seed2: `fedcba` with uncommitted changes\n" in text
    assert "- exp/asr_train_kd_aux_seed1: `0123456789abcdef`\n" in text
    rows = rows_of(text, "| system")
    assert "train_kd_aux †" in rows and "train_kd_token" in rows
    assert "† Trained from a checkout with uncommitted changes." in text


def test_refused(recipe):
    with pytest.raises(DataError, match=r"no experiment with a run\.json"):
        report(exp_dirs="exp/none*")
    shutil.copytree("exp/asr_train_kd_aux_seed1", "exp/asr_copy")
    with pytest.raises(DataError, match="seed 1 of train_kd_aux is also exp/asr_copy: report one of the two"):
        report()
    shutil.rmtree("exp/asr_copy")
    out = Path(f"exp/asr_train_kd_aux_seed1/{TAG}/test")
    for path in (Path("ref"), Path("utt2spk"), out / "text"):
        Path(f"{path.name}2").write_text(path.read_text().partition("\n")[2])
    score_set("ref2", "text2", "utt2spk2", out)
    with pytest.raises(DataError) as caught:
        report()
    what = "119 utterances and 716 words, but 120 and 720 elsewhere: decode and score the systems on the same set"
    assert str(caught.value).splitlines() == [f"{out}/score.json:0: -: {what}", "1 problem(s), 0 warning(s)"]
    assert not Path("RESULTS.md").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", b"", "run.json:1: -: is no JSON"),
        ("run.json", b"\x80", "run.json:0: -: not UTF-8 at byte 1"),
        ("run.json", b"[1]", "all of it: an object is expected"),
        ("run.json", b'{"name": "x", "role": "judge", "seed": 1, "command": "x", "train_seconds": 1}', "role 'judge'"),
        ("{test}/score.json", b'{"wer": {"snt": 1}}', "wer.wrd is missing"),
        ("{test}/stream.json", b'{"rtf": 1e999}', "rtf cannot be inf"),
        ("{test}/score_wer/result.txt", None, "result.txt:0: -: cannot be read"),
        ("{test}/score_wer/result.txt", b"nothing", "result.txt:0: -: counts of no words"),
        ("{test}/score_wer/ref.trn", b"a b\n", "references differ from those of"),
    ],
)
def test_a_damaged_file_is_named(recipe, file, content, message):
    path = recipe / "exp/asr_train_kd_aux_seed1" / file.format(test=f"{TAG}/test")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        report("--bootstrap_samples", "20")


def test_tables_are_padded_by_what_is_seen():
    text = table(("a", "b"), [("日本", "1|2"), ("e\u0301", "333")])
    assert text.splitlines() == ["| a    |    b |", "| :--- | ---: |", "| 日本 | 1\\|2 |", "| e\u0301    |  333 |"]
    assert columns(("a", "b"), [("日本", "1"), ("x", "22")]).splitlines() == ["a      b", "日本   1", "x     22"]
    assert width("日e\u0301") == 3


def test_commands_are_relative():
    root = Path("/some/recipe")
    command = ["/some/recipe/env/bin/python3", "-m", "x", "--exp=/some/recipe/exp/a b", "--other", "/else/where"]
    assert relative_command(command, root) == "python -m x '--exp=exp/a b' --other /else/where"
