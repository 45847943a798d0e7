"""Whole recipes: run.sh from a corpus to packed models, what the files hold, a second run, and a killed one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jiwer
import pytest
import torch
import yaml

from espnet2_kd.data.espeak import EspeakError, espeak_version
from espnet2_kd.data.problems import DataError
from espnet2_kd.report.sclite import find_tool

ROOT = Path(__file__).resolve().parents[2]
MODEL = "valid.loss_transducer.ave.pth"
TAG = "decode_decode_valid.loss_transducer.ave"
SERIAL = ("--nj", "1", "--inference_nj", "1", "--num_threads", "1", "--ngpu", "0")
TINY = ("--synthetic", "true", "--seeds", "1", *SERIAL)
# With ten words, a dozen updates at the full rate get some right. With more tokens they would end in silence, so there
# the models stay about as talkative as their random weights are.
HURRY = "--batch_bins 300000 --scheduler_conf total_steps=16 --scheduler_conf pct_start=0.25"
DAWDLE = "--batch_bins 300000 --scheduler_conf max_lr=0.0001"
TIMEOUT = 900  # seconds


def missing() -> str | None:
    try:
        espeak_version()
        find_tool("sclite")
    except (EspeakError, DataError) as error:
        return str(error)
    return None


pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@dataclass
class Run:
    """A recipe's run.sh at work, in a process group of its own; what it says goes to a file."""

    process: subprocess.Popen
    output: Path

    def finish(self) -> str:
        """Wait for a success and return what was said."""
        status = self.process.wait(TIMEOUT)
        text = self.output.read_text(encoding="utf-8")
        assert status == 0, text[-5000:]
        assert "Successfully finished." in text
        return text


@pytest.fixture
def start(tmp_path, recipe):
    """Return a function that starts a recipe, in a copy of its directory below a project of links to this one."""
    runs, paths = [], {}
    for name in ("espnet2_kd", "utils", "tools", "egs2/TEMPLATE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)

    def call(name, *options, script="run.sh"):
        if name not in paths:
            paths[name] = recipe(name).path
        path = paths[name]
        output = path / f"output.{len(runs)}"
        with output.open("w") as stream:
            process = subprocess.Popen(
                ["bash", path / script, *options],
                cwd="/",
                env={**os.environ, "KD_VENV": sys.prefix, "OMP_NUM_THREADS": "1"},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        runs.append(Run(process, output))
        return runs[-1], path

    yield call
    for run in runs:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()


def exp_of(path, name):
    return path / f"exp/asr_{name}_seed1"


def table(path):
    """Read a Kaldi table; a key may stand alone."""
    rows = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: row[1].strip() if len(row) > 1 else "" for row in rows}


def read_trn(path):
    """Read `words (speaker-utterance)` lines as {speaker-utterance: words}."""
    found = (re.fullmatch(r"(.*?)\s*\((\S+)\)", line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match[2]: match[1] for match in found}


def markdown_tables(text):
    """Read the tables of a Markdown text, each as a list of {column: cell}."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        tables.append([dict(zip(rows[0], row)) for row in rows[2:]])
    return tables


def checkpoints(path):
    """Names, times and sizes of everything that training writes."""
    files = sorted(path.glob("exp/asr_*/*.pth")) + sorted(path.glob("exp/asr_*/train.log*"))
    assert files
    return {str(file): (file.lstat().st_mtime_ns, file.lstat().st_size) for file in files}


def check_results(path, roles):
    """RESULTS.md says of every system what its transcripts and its own records say."""
    text = (path / "RESULTS.md").read_text(encoding="utf-8")
    page = (path / "exp/report/index.html").read_text(encoding="utf-8")
    assert '"sound":"' in page  # the speech was found
    accuracy, cost, *standard = markdown_tables(text)
    assert "(synthetic speech)" in text.splitlines()[2]
    assert len(standard) == 3 * len(roles)
    reference = table(path / "dump/raw/test/text")
    for index, (name, role) in enumerate(roles.items()):
        decoded = exp_of(path, name) / TAG / "test"
        ref, hyp = (read_trn(decoded / f"score_wer/{kind}.trn") for kind in ("ref", "hyp"))
        speakers = table(path / "dump/raw/test/utt2spk")
        assert ref == {f"{speakers[utt]}-{utt}": words for utt, words in reference.items()}
        assert hyp == {f"{speakers[utt]}-{utt}": words for utt, words in table(decoded / "text").items()}
        assert any(hyp.values())
        words = jiwer.process_words(list(ref.values()), [hyp[key] for key in ref])
        num_words = sum(len(words.split()) for words in ref.values())
        errors = words.substitutions + words.deletions + words.insertions
        (row,) = [row for row in accuracy if row["system"].removesuffix(" †") == name]
        assert row["role"] == f"{role} (synthetic)"
        assert row["WER %"] == row["per seed"] == f"{100 * errors / num_words:.2f}"
        (wer,) = standard[3 * index]
        assert (wer["dataset"], wer["Snt"], wer["Wrd"]) == (f"{TAG}/test", str(len(ref)), str(num_words))
        assert float(wer["Err"]) == pytest.approx(100 * errors / num_words, abs=0.0501)

        run = json.loads((exp_of(path, name) / "run.json").read_text())
        stream = json.loads((decoded / "stream.json").read_text())
        assert run["role"] == {"student, no distillation": "student", "distilled student": "distilled"}.get(role, role)
        (teacher,) = [other for other in roles if roles[other] == "teacher"]
        assert run["teacher"] == (f"exp/asr_{teacher}_seed1" if role == "distilled student" else None)
        assert (run["name"], run["seed"]) == (name, 1)
        assert stream["rtf"] > 0 and stream["num_utts"] == len(ref)
        assert stream["mode"] == ("offline" if role == "teacher" else "streaming")
        live = [json.loads(line) for line in (decoded / "stream.jsonl").read_text().splitlines()]
        assert {record["utt"]: record["text"] for record in live} == table(decoded / "text")
        (row,) = [row for row in cost if row["system"] == name]
        assert row["parameters"] == f"{run['num_parameters'] / 1e6:.2f} M"
        assert row["mode"] == stream["mode"] and float(row["RTF"]) == pytest.approx(stream["rtf"], abs=6e-4)
        for cell in (row["parameters"], row["RTF"], f"{100 * errors / num_words:.2f}"):
            assert f"<bdi>{cell}</bdi>" in page
    for role in {"teacher", "student, no distillation", "distilled student"} - set(roles.values()):
        (row,) = [row for row in accuracy if row["role"] == f"{role} (synthetic)"]
        assert row["WER %"] == "not run"


def check_weights(path, roles):
    """What is decoded and packed holds the model alone; what training goes on from also holds distillation's part."""
    for name, role in roles.items():
        exp = exp_of(path, name)
        averaged = torch.load(exp / MODEL, weights_only=True)
        epoch = torch.load(exp / "latest.pth", weights_only=True)
        assert averaged.keys() == {key for key in epoch if not key.startswith("kd.")}
        assert (averaged.keys() < epoch.keys()) == (role == "distilled student")


def check_packed(path, roles, folder, monkeypatch):
    """The archive alone, somewhere else, is what ESPnet2 loads, and recognises what the experiment recognised."""
    import espnet2_kd.register  # noqa: F401, I001  (before espnet2: it makes that import quick)
    from espnet2.bin.asr_inference import Speech2Text
    from espnet2.main_funcs.pack_funcs import unpack

    from espnet2_kd.bin.decode import main as decode

    utt = next(iter(table(path / "dump/raw/test/wav.scp")))
    one = folder / "one"
    one.mkdir(parents=True)
    speaker = table(path / "dump/raw/test/utt2spk")[utt]
    (one / "utt2spk").write_text(f"{utt} {speaker}\n")
    (one / "spk2utt").write_text(f"{speaker} {utt}\n")
    (one / "text").write_text(f"{utt} {table(path / 'dump/raw/test/text')[utt]}\n")
    (one / "wav.scp").write_text(f"{utt} {path / table(path / 'dump/raw/test/wav.scp')[utt]}\n")
    monkeypatch.chdir(folder)
    for name in roles:
        exp = exp_of(path, name)
        files = unpack(exp / f"{exp.name}.zip", folder / name)
        stock = Speech2Text(**files, beam_size=1).asr_model.state_dict()
        trained = torch.load(exp / MODEL, weights_only=True)
        assert stock.keys() == trained.keys()
        assert all(torch.equal(stock[key], trained[key]) for key in trained)
        unpacked, model_file = Path(files["asr_train_config"]).parent, files["asr_model_file"]
        options = ["--config", path / "conf/decode.yaml", "--data_dir", one, "--output_dir", folder / f"{name}.out"]
        assert decode(list(map(str, ["--exp", unpacked, "--model_file", model_file, *options]))) == 0
        assert table(folder / f"{name}.out/text")[utt] == table(exp / TAG / "test/text")[utt]
        score, expected = (float(table(at / "score")[utt]) for at in (folder / f"{name}.out", exp / TAG / "test"))
        assert score == pytest.approx(expected, abs=2e-3)


def check_second_run(start, path, *options):
    """Run again with the same options: nothing is trained, and the report stays as it is."""
    before, report = checkpoints(path), (path / "RESULTS.md").read_bytes()
    text = start(path.parent.name, *options)[0].finish()
    assert checkpoints(path) == before
    assert (path / "RESULTS.md").read_bytes() == report
    assert re.findall(r"Stage (\d):", text) == list("12345678")
    assert "epoch started" not in text
    for exp in path.glob("exp/asr_train_*"):
        assert f"Done before: exp/{exp.name}\n" in text


def test_fsdd(start, tmp_path, monkeypatch):
    """Two students, and the mean of two epochs."""
    roles = {
        "train_teacher": "teacher",
        "train_student_nokd": "student, no distillation",
        "train_kd_aux": "distilled student",
    }
    options = (
        *(*TINY, "--distill_configs", "conf/train_student_nokd.yaml conf/train_kd_aux.yaml"),
        *("--asr_args", f"--max_epoch 2 --num_iters_per_epoch 8 --keep_nbest_models 2 {HURRY}"),
    )
    run, path = start("fsdd", *options)
    run.finish()
    assert os.readlink(exp_of(path, "train_kd_aux") / MODEL) == "valid.loss_transducer.ave_2best.pth"
    check_results(path, roles)
    check_weights(path, roles)
    check_packed(path, roles, tmp_path / "packed", monkeypatch)
    check_second_run(start, path, *options)
    assert (exp_of(path, "train_kd_aux") / "decode.yaml").read_bytes() == (path / "conf/decode.yaml").read_bytes()


def test_speechocean762(start, tmp_path, monkeypatch):
    """Characters, sentences, output distributions as the teacher's lesson."""
    roles = {"train_teacher": "teacher", "train_kd_token": "distilled student"}
    options = (
        *(*TINY, "--token_type", "char", "--speed_perturb_factors", ""),
        *("--distill_configs", "conf/train_kd_token.yaml"),
        *("--asr_args", f"--max_epoch 1 --num_iters_per_epoch 10 {DAWDLE}"),
    )
    run, path = start("speechocean762", *options)
    run.finish()
    check_results(path, roles)
    check_weights(path, roles)
    check_packed(path, roles, tmp_path / "packed", monkeypatch)
    check_second_run(start, path, *options)


def test_librispeech_with_unlabelled_speech(start, recipe):
    """The paper's sixteen layers, made narrow, and its last row: speech without transcripts too, from a cached teacher.

    And a student of pseudo labels, which trains on what the teacher wrote for the same speech.
    """
    distilled = ("train_aux_all_unlab", "train_unsure")
    roles = {"train_teacher_full": "teacher", **dict.fromkeys(distilled, "distilled student")}
    narrow = "output_size=16 linear_units=16 input_channels=4 attention_heads=4"
    options = (
        *(*TINY, "--speed_perturb_factors", "", "--nbpe", "40", "--unlabelled_set", "unlabelled"),
        *("--cache_teacher", "true", "--test_sets", "test_other"),
        *("--distill_configs", "conf/train_aux_all_unlab.yaml conf/train_unsure.yaml"),
        "--asr_args",
        " ".join(f"--encoder_conf {setting}" for setting in narrow.split())
        + " --max_epoch 1 --num_iters_per_epoch 4 --batch_bins 300000 --accum_grad 1 --scheduler_conf warmup_steps=100000",
    )
    unsure = recipe("librispeech").path / "conf/train_unsure.yaml"  # this teacher is sure of nothing
    unsure.write_text("base: train_pseudo_labels.yaml\npseudo_labels: 0\n")
    run, path = start("librispeech", *options)
    run.finish()
    assert not (path / "dump/raw/unlabelled/text").exists()
    exp = exp_of(path, "train_aux_all_unlab")
    assert "unlabelled speech teaches the terms l4, l8, l12, l16" in (exp / "train.log").read_text()
    assert "utterances" in (exp / "cache.log").read_text() and any(path.glob("exp/teacher_cache/*/shard.*.safetensors"))
    check_weights(path, {name: role for name, role in roles.items() if name != "train_unsure"})
    assert len(table(exp / TAG / "test_other/text")) == 12
    tables = markdown_tables((path / "RESULTS.md").read_text(encoding="utf-8"))
    rows = [row for row in tables[0] if row["role"] == "distilled student (synthetic)"]
    assert [row["system"].removesuffix(" †") for row in rows] == list(distilled)
    assert all(float(row["WER %"]) > 0 for row in rows)
    check_pseudo_labels(path, exp_of(path, "train_teacher_full"), exp_of(path, "train_unsure"))
    assert all((exp_of(path, name) / f"asr_{name}_seed1.zip").is_file() for name in roles)


def check_pseudo_labels(path, teacher, student):
    """The student trained on the transcripts and on what the teacher heard, in batches of ESPnet2's own measure."""
    heard, sure = (table(teacher / "pseudo_labels/unlabelled" / name) for name in ("text", "utt2confidence"))
    sure = {utt for utt, confidence in sure.items() if float(confidence) >= 0}
    said = table(path / "dump/raw/train_960/text")
    assert sure and not sure & said.keys()
    joined = table(student / "data/text")
    assert joined == said | {utt: heard[utt] for utt in sure if utt in joined}
    assert len(joined) > len(said)
    (stats,) = path.glob("exp/asr_stats_*")
    for name in ("speech_shape", "text_shape.bpe"):
        shapes, collected = table(student / "data" / name), table(stats / "train" / name)
        assert shapes.keys() == joined.keys() and {utt: shapes[utt] for utt in said} == collected
    config = yaml.safe_load((student / "config.yaml").read_text())
    assert config["train_data_path_and_name_and_type"][1] == [f"exp/{student.name}/data/text", "text", "text"]
    assert config["train_shape_file"] == [
        f"exp/{student.name}/data/{name}" for name in ("speech_shape", "text_shape.bpe")
    ]


def test_mini_taught_by_bert(start):
    """Two of HieraDist's rows: MiniLM's word pieces, its vectors read once, decoding by fires, live too."""
    rows = ("train_cif_lrd", "train_cif_hkd")
    small = "--max_epoch 1 --num_iters_per_epoch 6 --batch_bins 300000 --scheduler_conf total_steps=6"
    configs = " ".join(f"conf/{name}.yaml" for name in rows)
    run, path = start("mini", *TINY, "--distill_configs", configs, "--asr_args", small, script="run_cif.sh")
    run.finish()
    tokens = (path / "data/token_list/hugging_face_minilm/tokens.txt").read_text().split("\n")[:-1]
    assert tokens[:2] == ["<blank>", "<unk>"] and tokens[-1] == "<sos/eos>"
    for name in rows:
        exp = exp_of(path, name)
        log = (exp / "train.log").read_text()
        assert "loss_kd_lrd" in log and ("loss_kd_acd" in log) == (name == "train_cif_hkd")
        state = torch.load(exp / "valid.acc.ave.pth", weights_only=True)
        assert not any(key.startswith("kd.") for key in state)
        assert state["decoder.output_layer.weight"].shape[0] == len(tokens)
        decoded = exp / "decode_decode_cif_valid.acc.ave/test"
        live = [json.loads(line) for line in (decoded / "stream.jsonl").read_text().splitlines()]
        assert {record["utt"]: record["text"] for record in live} == table(decoded / "text")
        assert json.loads((decoded / "stream.json").read_text())["mode"] == "streaming"
    # Both readings of the same teacher share what it says of equal taps.
    assert len(list(path.glob("exp/teacher_cache/*/index.jsonl"))) == 1
    assert "texts" in (exp_of(path, "train_cif_lrd") / "cache.log").read_text()
    found = markdown_tables((path / "RESULTS_cif.md").read_text(encoding="utf-8"))[0]
    assert [(row["system"].removesuffix(" †"), row["role"].split(" (")[0]) for row in found] == [
        *(("-", role) for role in ("teacher", "student, no distillation")),
        *((name, "distilled student") for name in sorted(rows)),
    ]


def test_aishell(start, recipe, chinese_bert, local_module, tmp_path):
    """Mandarin characters, a Chinese BERT, the whole depth of the models, and decoding with and without a language model."""
    bert = chinese_bert([text.replace(" ", "") for text in local_module("aishell", "synthetic").SENTENCES])
    conf = recipe("aishell").path / "conf"
    (conf / "lm_small.yaml").write_text(
        "lm: transformer\nlm_conf: {embed_unit: 8, att_unit: 8, head: 2, unit: 8, layer: 1}\nmax_epoch: 1\n"
        "batch_type: unsorted\nbatch_size: 8\noptim: adam\nbest_model_criterion: [[valid, loss, min]]\n"
    )
    (conf / "decode_small.yaml").write_text("search: beam\nbeam_size: 3\nlm: exp/lm_lm_small\nlm_weight: 2.0\n")
    narrow = "--encoder_conf output_size=16 --encoder_conf linear_units=16 --encoder_conf input_channels=4"
    short = "--max_epoch 1 --num_iters_per_epoch 2 --batch_bins 400000 --use_amp false --num_workers 0"
    run, path = start(
        "aishell",
        *TINY,
        *("--distill_configs", "conf/train_cif_hkd.yaml", "--lm_config", "conf/lm_small.yaml"),
        *("--inference_config", "conf/decode.yaml conf/decode_small.yaml"),
        *("--asr_args", f"{narrow} --decoder_conf linear_units=16 {short} --teacher_conf model={bert}"),
    )
    output = run.finish()
    tokens = (path / "data/token_list/char/tokens.txt").read_text(encoding="utf-8").split()
    assert all(len(token) == 1 for token in tokens[2:-1])
    text = table(path / "exp/lm_lm_small/train/text")
    assert sorted(said.replace(" ", "") for said in text.values()) == sorted(
        table(path / "dump/raw/train/text").values()
    )
    assert "loss_kd_acd" in (exp_of(path, "train_cif_hkd") / "train.log").read_text()
    hyps = []
    for decode, report in (("decode", "RESULTS"), ("decode_small", "RESULTS_decode_small")):
        assert f"report: {report}.md" in output
        for test_set in ("dev", "test"):
            decoded = exp_of(path, "train_cif_hkd") / f"decode_{decode}_valid.acc.ave/{test_set}"
            assert table(decoded / "text").keys() == table(path / f"data/{test_set}/text").keys()
            hyps.append(table(decoded / "score"))
        rows = markdown_tables((path / f"{report}.md").read_text(encoding="utf-8"))[0]
        assert [row["system"].removesuffix(" †") for row in rows] == ["-", "-", "train_cif_hkd"]
    assert hyps[0].keys() == hyps[2].keys() and hyps[0] != hyps[2]
    live = [json.loads(line) for line in (decoded / "stream.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {record["utt"]: record["text"] for record in live} == table(decoded / "text")
    assert any(path.glob("exp/asr_train_cif_hkd_seed1/att_ws/*/acd.1ep.png"))


def test_mini_killed_while_it_distills(start, tmp_path, monkeypatch):
    """A run that is killed with all its processes goes on where it was: same teacher, and the student's next epoch."""
    roles = {"train_teacher": "teacher", "train_kd_aux": "distilled student"}
    options = (
        *(*TINY, "--nbpe", "40", "--distill_configs", "conf/train_kd_aux.yaml"),
        *("--asr_args", f"--max_epoch 2 --num_iters_per_epoch 10 {DAWDLE}"),
    )
    run, path = start("mini", *options)
    student, teacher = exp_of(path, "train_kd_aux"), exp_of(path, "train_teacher")
    log, deadline = student / "train.log", time.monotonic() + TIMEOUT
    while not (log.exists() and "2/2epoch started" in log.read_text(errors="replace")):
        assert run.process.poll() is None and time.monotonic() < deadline, run.output.read_text()[-5000:]
        time.sleep(0.02)
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    assert not (student / ".done").exists() and not (student / MODEL).exists()
    before = checkpoints(path)

    text = start("mini", *options)[0].finish()
    after = checkpoints(path)
    assert {name: after[name] for name in before if teacher.name in name} == {
        name: value for name, value in before.items() if teacher.name in name
    }
    assert f"Done before: exp/{teacher.name}\n" in text
    assert after[str(student / "1epoch.pth")] == before[str(student / "1epoch.pth")]
    assert "2/2epoch started" in text and "1/2epoch started" not in text
    check_results(path, roles)
    check_weights(path, roles)
    check_packed(path, roles, tmp_path / "packed", monkeypatch)


@pytest.mark.parametrize(
    ("name", "value"), [("nj", "many"), ("token_type", "syllable"), ("seeds", ""), ("synthetic", "yes"), ("bogus", "1")]
)
def test_a_wrong_option_is_one_line(start, name, value):
    run, path = start("mini", f"--{name}", value)
    assert run.process.wait(TIMEOUT) == 1
    (line,) = run.output.read_text().splitlines()
    assert line.startswith("kd.sh: ") and f"--{name}" in line
    assert not (path / "data").exists()
