"""Languages without blanks between words are compared by characters: reports, their pages and cards of models."""

import json
import random
import shutil
import statistics
from pathlib import Path

import jiwer
import pytest

from espnet2_kd.bin.report import main as report
from espnet2_kd.data.problems import DataError
from espnet2_kd.report.metric import CHARACTERS, WORDS, choose_metric
from espnet2_kd.report.sclite import DEBIAN_FOLDER
from espnet2_kd.report.score import score_set
from espnet2_kd.report.significance import mapsswe
from espnet2_kd.report.trn import make_line

TAG = "decode"
SYSTEMS = {"plain": ("student", 0.4), "acd": ("distilled", 0.2)}
SEEDS = (1, 2)
CHARS = "今天的天气很好我们一起去公园散步"
REF = {f"u{n:02d}": "".join(random.Random(n).choices(CHARS, k=3 + n % 8)) for n in range(40)}
sclite = pytest.mark.skipif(
    shutil.which("sclite") is None and shutil.which("sclite", path=str(DEBIAN_FOLDER)) is None,
    reason="sclite is not installed",
)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("今天天气很好", CHARACTERS),
        ("今天 天气 很 好", CHARACTERS),  # cut into words by some segmenter, of which there are many
        ("きょうはカラオケ", CHARACTERS),
        ("สวัสดีครับ", CHARACTERS),
        ("ខ្ញុំស្រលាញ់", CHARACTERS),
        ("𠀋" * 80, CHARACTERS),  # a word above 200 bytes, of which scoring keeps the beginning
        ("我们的 AI", CHARACTERS),
        ("今天 we meet tomorrow", WORDS),
        ("오늘 날씨가 좋네요", WORDS),
        ("xin chào các bạn", WORDS),
        ("lights", WORDS),  # a single word is no sentence without blanks
        ("שלום עולם", WORDS),
    ],
)
def test_scripts_without_blanks(tmp_path, text, metric):
    (tmp_path / "score_wer").mkdir()
    (tmp_path / "score_wer/ref.trn").write_text(make_line(text.split(), "s-u"), encoding="utf-8")
    assert choose_metric(tmp_path) is metric


def test_a_set_without_references(tmp_path):
    with pytest.raises(DataError, match=r"score_wer/ref.trn:0: -: cannot be read .*score again"):
        choose_metric(tmp_path)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    (folder / "ref").write_text("".join(f"{utt} {text}\n" for utt, text in REF.items()), encoding="utf-8")
    (folder / "utt2spk").write_text("".join(f"{utt} s{int(utt[1:]) % 5}\n" for utt in REF))
    for name, (role, rate) in SYSTEMS.items():
        for seed in SEEDS:
            exp = folder / f"exp/asr_{name}_seed{seed}"
            out = exp / TAG / "test"
            out.mkdir(parents=True)
            draw = random.Random(f"{name}{seed}")
            # Left out, right or heard twice: whole utterances are nearly always wrong, whatever the system.
            heard = {
                utt: "".join(
                    "" if (drawn := draw.random()) < rate / 2 else char * (1 + (drawn < rate)) for char in text
                )
                for utt, text in REF.items()
            }
            (out / "text").write_text("".join(f"{utt} {text}\n" for utt, text in heard.items()), encoding="utf-8")
            score_set(folder / "ref", out / "text", folder / "utt2spk", out)
            run = {"name": name, "role": role, "seed": seed, "command": "train", "train_seconds": 60.0}
            (exp / "run.json").write_text(json.dumps(run))
    return folder


@pytest.fixture
def recipe(scored, tmp_path, monkeypatch):
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_report(*options: str) -> tuple[str, dict]:
    """The report's text, and what it says of the set in JSON."""
    report(["--exp_dirs", "exp/asr_*", "--inference_tag", TAG, "--test_sets", "test", *options])
    return Path("RESULTS.md").read_text(encoding="utf-8"), json.loads(Path("exp/report/results.json").read_text())[0]


def hypotheses(name: str, seed: int) -> list[str]:
    lines = Path(f"exp/asr_{name}_seed{seed}/{TAG}/test/text").read_text(encoding="utf-8").splitlines()
    return [line.partition(" ")[2] for line in lines]


@sclite
def test_characters_are_compared(recipe, capsys):
    text, found = run_report()
    rates = {name: [100 * jiwer.cer(list(REF.values()), hypotheses(name, seed)) for seed in SEEDS] for name in SYSTEMS}
    lines = text.splitlines()
    assert f"## test: 40 utterances, {sum(map(len, REF.values()))} characters" in lines
    start = next(n for n, line in enumerate(lines) if line.startswith("| system"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 5]]
    assert rows[0] == [
        *("system", "role", "seeds", "CER %", "per seed"),
        *("CER change", "95 % interval", "MAPSSWE p"),
    ]
    by_name = {row[0]: row for row in rows[2:]}
    for name, values in rates.items():
        assert by_name[name][3] == f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert by_name[name][4] == ", ".join(f"{value:.2f}" for value in values)
    change = statistics.mean(rates["acd"]) / statistics.mean(rates["plain"]) - 1
    assert by_name["plain"][5] == "base" and by_name["acd"][5] == f"{100 * change:+.1f} %"
    folders = [{seed: Path(f"exp/asr_{n}_seed{seed}/{TAG}/test/score_cer") for seed in SEEDS} for n in SYSTEMS]
    assert mapsswe(*folders).p < 0.001 and by_name["acd"][7] == "< 0.001 ***"
    own = next(row for row in found["rows"] if row["name"] == "acd")
    assert own["change"]["relative"]["value"] == pytest.approx(change)
    assert own["interval"]["value"] == pytest.approx(statistics.mean(rates["acd"]) / 100)
    assert own["interval"]["low"] < own["interval"]["value"] < own["interval"]["high"]
    assert (found["metric"], found["num_units"]) == ("cer", sum(map(len, REF.values())))
    # Tables to paste keep what ESPnet2 users expect, whole utterances as words among it.
    assert "### WER" in lines and "### CER" in lines
    closing = capsys.readouterr().out.splitlines()
    assert closing[1].split()[:3] == ["system", "CER", "%"]
    assert f"{statistics.mean(rates['acd']):.1f}" in next(line for line in closing if "(acd)" in line)


@sclite
def test_the_page_says_the_same(recipe):
    _, found = run_report("--page", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "Character error rate, test" in page and "change of the CER (%)" in page and "character errors" in page
    assert "WER" not in page.replace("### WER", "")
    assert found["metric"] == "cer"


@sclite
def test_the_user_s_choice_counts(recipe):
    text, found = run_report("--metric", "wer")
    wrong = [
        sum(a != b for a, b in zip(REF.values(), hypotheses("plain", seed), strict=True)) / len(REF) for seed in SEEDS
    ]
    assert found["rows"][1]["wer"]["mean"] == pytest.approx(100 * statistics.mean(wrong))
    assert "WER change" in text and found["metric"] == "wer" and found["num_units"] == len(REF)


@sclite
def test_without_characters_words_are_compared(recipe):
    """Scores of another tool, or of long ago, may have no characters."""
    path = recipe / f"exp/asr_acd_seed2/{TAG}/test/score.json"
    score = json.loads(path.read_text())
    del score["cer"]
    path.write_text(json.dumps(score))
    _, found = run_report()
    assert found["metric"] == "wer"
