"""A page holds the numbers of RESULTS.md, takes no text for more than text, and says what is missing."""

import json
import re
import shutil

import pytest

from espnet2_kd.bin.report import main as report
from espnet2_kd.data.problems import DataError
from espnet2_kd.report.page.document import as_json, plotly_script

from .conftest import (
    EPOCHS,
    HOSTILE,
    INTENT_SETS,
    REF,
    SYSTEMS,
    TAG,
    UTTS,
    VALUES,
    Reader,
    curve,
    report_asr,
    slots_of,
    stream_record,
)


def markdown_tables(text):
    """Tables of a Markdown text, each as rows of cells, header first."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    rows = [
        [[cell.strip().replace("\\|", "|") for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        for block in blocks
    ]
    return [[block[0], *block[2:]] for block in rows]


@pytest.fixture
def asr(asr_page):
    folder, text = asr_page
    return folder, Reader(text)


def test_tables_are_those_of_the_report(asr):
    folder, page = asr
    written = [rows for rows in markdown_tables((folder / "RESULTS.md").read_text()) if rows[0][0] == "system"]
    shown = [rows for rows in page.tables if rows[0][0] == "system"]
    assert len(written) == 4
    assert shown[:4] == written


def test_data_are_those_of_the_report(asr):
    folder, page = asr
    assert page.data["results"] == json.loads((folder / "exp/report/results.json").read_text())
    rates = page.data["figures"]["rates0"]["traces"]
    row = next(row for row in page.data["results"][0]["rows"] if row["name"] == "train_kd_aux")
    trace = next(one for one in rates if one["y"] == ["train_kd_aux"])
    assert trace["x"] == [row["wer"]["mean"]]
    low, high = trace["x"][0] - trace["error_x"]["arrayminus"][0], trace["x"][0] + trace["error_x"]["array"][0]
    assert (low, high) == (
        pytest.approx(100 * row["interval"]["low"]),
        pytest.approx(100 * row["interval"]["high"]),
    )
    change = page.data["figures"]["changes0"]["traces"][-1]
    assert change["x"] == [pytest.approx(100 * row["change"]["relative"]["value"])]
    (text,) = [text for text in page.texts if text.startswith("train_kd_aux: ") and "-64" in text]
    assert f"{-100 * row['change']['relative']['value']:.1f} % fewer word errors than train_student_nokd" in text


def test_curves(asr):
    _, page = asr
    trainings = {one["name"]: one for one in page.data["curves"]["trainings"]}
    assert set(trainings) == {
        *(f"{name}, seed {seed}" for name, (_, seeds, _, _) in SYSTEMS.items() for seed in seeds),
        "asr_train_kd_token_seed1",
    }
    second = trainings["train_kd_aux, seed 2"]
    for part in ("train", "valid"):
        for term in ("loss", "loss_kd_l4", "weight_kd_l4"):
            expected = [[epoch, pytest.approx(curve(term, part, epoch, 2))] for epoch in range(1, EPOCHS + 1)]
            assert second[part][term] == expected
    failed = trainings["asr_train_kd_token_seed1"]
    assert (failed["ended"], failed["epochs"], failed["planned"]) == (False, 2, 9)
    assert "Asked for, but not run: exp/asr_train_kd_token_seed1" in page.text


def test_utterances_are_the_texts(asr):
    folder, page = asr
    test_set = page.data["sets"][0]
    assert {utt["id"] for utt in test_set["utts"]} == {utt if len(utt) < 200 else f"{utt[:40]}…" for utt in REF}
    for utt in test_set["utts"]:
        if utt["id"] not in REF or utt["id"] == "long":
            continue
        assert utt["ref"] == REF[utt["id"]].lower().split()
    hyps = dict(
        line.partition(" ")[::2]
        for line in (folder / f"exp/asr_train_kd_aux_seed1/{TAG}/test/text").read_text().splitlines()
    )
    place = [system["name"] for system in page.data["systems"]].index("train_kd_aux")
    for utt in test_set["utts"]:
        steps = [step if isinstance(step, list) else [step, step] for step in utt["hyps"][str(place)]]
        if utt["id"] in hyps and utt["id"] != "long":
            assert [hyp for _, hyp in steps if hyp is not None] == hyps[utt["id"]].lower().split()
        assert utt["errors"][str(place)] == sum(ref != hyp for ref, hyp in steps)
    first = next(utt for utt in test_set["utts"] if utt["id"] == "u000")
    said = stream_record("u000", hyps["u000"], 1)
    assert first["live"][str(place)]["words"] == [[word["word"], word["ms"]] for word in said["words"]]
    assert first["live"][str(place)]["frames"] == said["frames_ms"]


def test_texts_stay_texts(asr):
    _, page = asr
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}, {}]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2 and all(source.startswith("data:image/png;base64,") for source in images)
    assert "Made up <b>&" in page.texts
    assert any("<script>window.hacked=1</script>" in text for text in page.texts)
    assert all(
        utt in json.dumps(page.data, ensure_ascii=False) or json.dumps(utt)[1:-1] in json.dumps(page.data)
        for utt in list(HOSTILE)[:4]
    )
    assert "</" not in page.scripts[0]


def test_nothing_is_loaded(asr):
    _, page = asr
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy and policy.count("'sha256-") == 2
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            if attributes.get(name):
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)


def test_costs(asr):
    _, page = asr
    stages = {row[0]: row[1:] for row in page.table("stage", "steps")}
    assert stages["distill"] == ["4", "40 min", "40 min", "1.5 GB"]
    assert stages["data"] == ["1", "12 s", "-", "-"]
    trainings = {row[0]: row[1:] for row in page.table("training")}
    assert trainings["exp/asr_train_kd_aux_seed1"][:5] == ["1.23 M", "3", "1 h 07 min", "1.5 GB", "1.5 GB"]


def test_noise_and_length(asr):
    _, page = asr
    noise = page.data["figures"]["noise0"]["traces"]
    assert noise[1]["x"] == ["clean", "5 dB"]
    for trace, name in zip(noise, SYSTEMS, strict=True):
        for n, comparison in enumerate(page.data["results"]):
            row = next(row for row in comparison["rows"] if row["name"] == name)
            assert trace["y"][n] == (row["wer"] and row["wer"]["mean"])
    by_length = page.data["figures"]["length0"]["traces"][0]
    utts = page.data["sets"][0]["utts"]
    lowest, _, highest = by_length["x"][0].partition("–")
    some = [utt for utt in utts if int(lowest) <= utt["words"] <= int(highest or lowest)]
    assert by_length["text"][0] == f"{len(some)} utterances"
    expected = 100 * sum(utt["errors"]["0"] for utt in some) / sum(utt["words"] for utt in some)
    assert by_length["y"][0] == pytest.approx(expected)


def test_size_is_kept(asr_page, tmp_path):
    folder = shutil.copytree(asr_page[0], tmp_path / "recipe", symlinks=True)
    megabytes = (len(plotly_script()) + 0.6e6) / 1e6
    page = Reader(text := report_asr(folder, "--page_mb", str(megabytes), "--page_utts", "8"))
    assert len(text.encode()) < megabytes * 1e6
    assert all(len(one["utts"]) == 8 for one in page.data["sets"])
    assert 0 < len(page.data["clips"]) < 16
    left = re.search(r"Left out: (\d+) utterances, (\d+) utterances with sound", page.text)
    assert int(left[1]) == 2 * (len(REF) - 8) and int(left[2]) == 16 - len(page.data["clips"])
    assert f"--page_mb {megabytes:g}" in page.text and "--page_utts 8" in page.text


def test_missing_pieces(asr_page, tmp_path):
    """No latency, one seed, no teacher, no base, no sound, no logs."""
    folder = shutil.copytree(asr_page[0], tmp_path / "recipe", symlinks=True)
    for name in ("stream.json", "stream.jsonl", "train.log", ".done"):
        for path in folder.rglob(name):
            path.unlink()
    shutil.rmtree(folder / "exp/asr_train_kd_aux_seed1/att_ws")
    (folder / "dump/raw/test/wav.scp").unlink()
    exp = "exp/asr_train_kd_aux_seed1"
    page = Reader(report_asr(folder, exp_dirs=exp, test_sets="test"))
    assert "No latency was measured on this set." in page.text
    assert [row[3] for row in page.table("system", "role", "seeds")] == [
        "not run",
        "not run",
        page.data["results"][0]["rows"][2]["wer"]["mean"]
        and f"{page.data['results'][0]['rows'][2]['wer']['mean']:.2f}",
    ]
    assert page.data["curves"]["trainings"] == [] and page.data["clips"] == []
    assert "no such recording" in page.text and "num_att_plot" in page.text
    assert "changes0" not in page.data["figures"] and "latency0" not in page.data["figures"]
    unscored = Reader(report_asr(folder, exp_dirs=exp, test_sets="test elsewhere"))
    assert "Not scored." in unscored.text and "rates1" not in unscored.data["figures"]
    with pytest.raises(
        DataError, match="no system has a score of elsewhere in .*: score first, or correct --test_sets"
    ):
        report_asr(folder, exp_dirs=exp, test_sets="elsewhere")


def test_wer_over_contexts(asr_page, tmp_path):
    folder = shutil.copytree(asr_page[0], tmp_path / "recipe", symlinks=True)
    points = [
        {
            "system": "s",
            "chunk_ms": chunk,
            "left_ms": "inf",
            "wer": 20.0 - chunk / 100,
            "stream": {"algorithmic_latency_ms": chunk + 35.0},
        }
        for chunk in (80.0, 320.0)
    ]
    (folder / "exp/latency").mkdir()
    (folder / "exp/latency/wer_latency.json").write_text(json.dumps(points))
    (folder / "exp/broken").mkdir()
    (folder / "exp/broken/wer_latency.json").write_text("[{}, 3]")
    page = Reader(report_asr(folder, exp_dirs="exp/asr_train_kd_aux_seed1", test_sets="test"))
    (trace,) = page.data["figures"]["contexts1"]["traces"]
    assert (trace["x"], trace["y"]) == ([115.0, 355.0], [19.2, 16.8])
    assert "exp/broken/wer_latency.json cannot be read" in page.text


def test_wrong_options(asr_page, tmp_path, monkeypatch):
    monkeypatch.chdir(asr_page[0])
    options = [
        "--exp_dirs",
        "exp/asr_*",
        "--inference_tag",
        TAG,
        "--test_sets",
        "test",
        "--output",
        str(tmp_path / "r"),
    ]
    with pytest.raises(DataError, match="2 directories for 1 test sets"):
        report([*options, "--page", str(tmp_path / "p"), "--data_dirs", "a b"])
    with pytest.raises(DataError, match="cannot be negative"):
        report([*options, "--page_sounds", "-1"])
    assert not (tmp_path / "r").exists()


def test_json_cannot_end_its_element():
    text = as_json({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text) and json.loads(text) == {"a": "</script><!--\u2028&"}
    with pytest.raises(ValueError, match="JSON"):
        as_json(float("nan"))


def test_intent_tables_and_matrices(intent_page):
    folder, text = intent_page
    page = Reader(text)
    written = [rows for rows in markdown_tables((folder / "RESULTS.md").read_text()) if rows[0][0] in ("system", "set")]
    shown = [rows for rows in page.tables if rows[0][0] in ("system", "set")]
    for rows in written:
        assert rows in shown
    assert page.data["results"] == json.loads((folder / "exp/report/results.json").read_text())
    names = [system["name"] for system in page.data["systems"]]
    labels = {}
    for seed in (1, 2):
        lines = (folder / f"exp/intent_train_std_seed{seed}/classify_valid.acc.ave/test/label").read_text().splitlines()
        for line in lines:
            utt, *slots = line.split(" ")
            labels[utt, seed] = dict(slot.split("=", 1) for slot in slots)
    matrix = next(
        one
        for one in page.data["matrices"]
        if (one["set"], names[one["system"]], one["slot"]) == ("test", "intent_train_std", "drink")
    )
    counts = {(matrix["values"][ref], matrix["values"][hyp]): count for ref, hyp, count in matrix["counts"]}
    for ref in VALUES["drink"]:
        for hyp in VALUES["drink"]:
            expected = sum(slots_of(utt)["drink"] == ref and one["drink"] == hyp for (utt, _), one in labels.items())
            assert counts.get((ref, hyp), 0) == expected
    place = str(names.index("intent_train_std"))
    for utt in page.data["sets"][0]["utts"]:
        assert dict(utt["ref"]) == slots_of(utt["id"])
        assert {slot: value for slot, value, _ in utt["hyps"][place]} == labels[utt["id"], 1]
    assert {one["name"] for one in page.data["sets"]} == set(INTENT_SETS) and len(page.data["sets"][0]["utts"]) == len(
        UTTS
    )


def test_intent_curves_noise_and_missing(intent_page):
    page = Reader(intent_page[1])
    trainings = {one["name"]: one for one in page.data["curves"]["trainings"]}
    assert trainings["text_bert, seed 1"]["valid"]["acc"] == [[1, 0.1], [2, 0.2]]
    assert trainings["intent_train_std, seed 2"]["train"]["loss_kd_cls"][0] == [
        1,
        pytest.approx(curve("loss_kd_cls", "train", 1, 2)),
    ]
    noise = page.data["figures"]["noise0_0"]["traces"]
    assert [trace["x"] for trace in noise] == [["clean", "10 dB", "0 dB"]] * 3
    rows = {row["system"]: row for row in page.data["results"]["sets"][2]["rows"]}
    assert noise[2]["y"][2] == rows["intent_train_std"]["accuracy"]["mean"] and noise[0]["y"][1:] == [None, None]
    assert "Asked for, but not run: exp/intent_train_gru_seed1" in page.text
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len(scripts) == 3 and not any(tag == "i" for tag, _ in page.tags)
