"""A cached teacher says what the living one says; stale, damaged and incomplete caches are refused or mended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet2_kd.bin import cache_teacher
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.asr import KDASRTask

LENS = {f"u{n}": 6000 + 1111 * n for n in range(7)}
TERMS = [
    {"name": "l2", "student": "encoder.encoders.1", "loss": "mse", "weight": 0.5},
    {
        "name": "l1",
        "student": "encoder.encoders.0",
        "head": {"nonstreaming": {"num_heads": 2}},
        "losses": {"distance": {"weight": 0.1}, "relation": {"weight": 0.1, "num_heads": 2}},
    },
]


@pytest.fixture()
def teacher(tiny_experiment, tmp_path):
    """A copy that a test may change."""
    if not hasattr(teacher, "exp"):
        teacher.exp = tiny_experiment("asr_cache_teacher", encoder_conf={}, seed=2)
    recipe = tmp_path / "recipe"
    shutil.copytree(teacher.exp.parents[1] / "exp/asr_stats", recipe / "exp/asr_stats")
    return Path(shutil.copytree(teacher.exp, recipe / "exp/teacher"))


@pytest.fixture()
def config(teacher, write_student, tmp_path):
    """Function: options of the student's config -> its path."""
    return lambda **options: write_student(tmp_path / "student.yaml", teacher, **{"kd_terms": TERMS, **options})


def write_data_dir(path, utts):
    path.mkdir(parents=True, exist_ok=True)
    for utt in utts:
        rng = np.random.default_rng(LENS[utt])
        soundfile.write(path / f"{utt}.wav", rng.standard_normal(LENS[utt]) * 0.1, 16000)
    (path / "wav.scp").write_text("".join(f"{utt} {path}/{utt}.wav\n" for utt in sorted(utts)))
    (path / "utt2spk").write_text("".join(f"{utt} {utt}\n" for utt in sorted(utts)))
    (path / "spk2utt").write_text("".join(f"{utt} {utt}\n" for utt in sorted(utts)))
    return path


@pytest.fixture()
def data(tmp_path):
    return write_data_dir(tmp_path / "speech", LENS)


def run(config, data, root, *options):
    argv = [
        "--config",
        config,
        "--data_dir",
        data,
        "--cache_dir",
        root,
        "--shard_utts",
        "2",
        "--batch_seconds",
        "1",
        *options,
    ]
    return cache_teacher.main(list(map(str, argv)))


def build(path, directory, *options):
    torch.manual_seed(0)
    args = KDASRTask.get_parser().parse_args(["--config", str(path), "--output_dir", str(directory), *options])
    return KDASRTask.build_model(args).train()


def batch_of(data, *utts):
    speech = [torch.from_numpy(soundfile.read(data / f"{utt}.wav", dtype="float32")[0]) for utt in utts]
    return {
        "speech": torch.nn.utils.rnn.pad_sequence(speech, batch_first=True),
        "speech_lengths": torch.tensor([len(x) for x in speech]),
        "text": torch.full((len(utts), 2), 3),
        "text_lengths": torch.full((len(utts),), 2),
        "utt_id": list(utts),
    }


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float16", 3e-3)])
def test_training_from_the_cache_is_training_from_the_teacher(config, data, tmp_path, dtype, rtol):
    path = config()
    assert run(path, data, tmp_path / "cache", "--dtype", dtype) == 0
    living = build(path, tmp_path)
    cached = build(path, tmp_path, "--teacher_cache", str(tmp_path / "cache"))
    assert type(cached.__dict__["teacher"]).__name__ == "CachedTeacher"
    cached.load_state_dict(living.state_dict())
    for utts in (["u3"], ["u6", "u0", "u2", "u5"]):
        batch = batch_of(data, *utts)
        # Dropout in the branch draws the same numbers.
        losses, stats = [], []
        for model in (living, cached):
            torch.manual_seed(1)
            loss, stat, _ = model(**batch)
            losses.append(loss)
            stats.append(stat)
        torch.testing.assert_close(losses[1], losses[0], rtol=rtol, atol=0.0)
        for name in ("loss_kd_l2", "loss_kd_l1_distance", "loss_kd_l1_relation"):
            torch.testing.assert_close(stats[1][name], stats[0][name], rtol=3 * rtol, atol=1e-7)
    half = {"unlabelled_speech": batch["speech"], "unlabelled_speech_lengths": batch["speech_lengths"]}
    a, b = (m(**batch, **half, unlabelled_utt_id=batch["utt_id"])[1]["loss_kd_l2"] for m in (living, cached))
    torch.testing.assert_close(a, b, rtol=3 * rtol, atol=1e-7)


def index_of(root):
    (path,) = root.glob("*/index.jsonl")
    return path


def shards_of(root):
    return {json.loads(line)["name"] for line in index_of(root).read_text().splitlines()[1:]}


def test_only_what_is_missing_is_made(config, data, tmp_path, capsys):
    path, root = config(), tmp_path / "cache"
    some = write_data_dir(tmp_path / "some", ["u0", "u4", "u5"])
    assert run(path, some, root) == 0
    before = {file: file.stat().st_mtime_ns for file in index_of(root).parent.glob("*.safetensors")}
    assert run(path, data, root) == 0
    assert "7 utterances" in capsys.readouterr().out
    assert all(file.stat().st_mtime_ns == time_ns for file, time_ns in before.items())
    model = cache_teacher.__name__ and build(path, tmp_path, "--teacher_cache", str(root))
    assert len(model.__dict__["teacher"].cache.where) == 9  # and the probe's two


def test_a_damaged_shard_alone_is_made_again(config, data, tmp_path, capsys):
    path, root = config(), tmp_path / "cache"
    assert run(path, data, root) == 0
    shards = sorted(index_of(root).parent.glob("*.safetensors"))
    assert len(shards) >= 4
    cut, flipped, *whole = shards[1:]
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=rf"{cut.name} missing or cut off: run the caching again"):
        build(path, tmp_path, "--teacher_cache", str(root))
    content = bytearray(flipped.read_bytes())
    content[-3] ^= 1
    flipped.write_bytes(content)
    before = {file: file.stat().st_mtime_ns for file in whole}
    capsys.readouterr()
    assert run(path, data, root) == 0
    assert f"{cut.name}, {flipped.name} missing or damaged, made again" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in whole} == before
    model, living = build(path, tmp_path, "--teacher_cache", str(root)), build(path, tmp_path)
    model.eval(), living.eval()
    batch = batch_of(data, *LENS)
    torch.testing.assert_close(model(**batch)[0], living(**batch)[0], rtol=3e-3, atol=0.0)


def test_another_teacher_or_other_taps_are_not_taken_for_it(config, teacher, data, tmp_path):
    path, root = config(), tmp_path / "cache"
    assert run(path, data, root) == 0
    with pytest.raises(ConfigError, match="no features of this teacher and these taps are cached"):
        build(config(kd_terms=TERMS[:1]), tmp_path, "--teacher_cache", str(root))
    state = torch.load(teacher / "valid.loss_transducer.ave.pth", weights_only=True)
    state[
        "encoder.encoders.0.norm_ff.weight" if "encoder.encoders.0.norm_ff.weight" in state else next(iter(state))
    ] += 0.5
    torch.save(state, teacher / "valid.loss_transducer.ave.pth")
    with pytest.raises(ConfigError, match="no features of this teacher"):
        build(config(), tmp_path, "--teacher_cache", str(root))
    assert run(config(), data, root) == 0
    assert len(list(root.glob("*/index.jsonl"))) == 2


def test_utterances_that_are_missing_or_have_changed_are_named(config, data, tmp_path, capsys):
    path, root = config(), tmp_path / "cache"
    assert run(path, write_data_dir(tmp_path / "some", ["u0", "u4"]), root) == 0
    shapes = tmp_path / "speech_shape"
    shapes.write_text("".join(f"{utt} {num}\n" for utt, num in LENS.items()))
    with pytest.raises(
        ConfigError, match=r"5 utterances of .*speech_shape are not in the cache \(u1 u2 u3 u5 u6\): run"
    ):
        build(path, tmp_path, "--teacher_cache", str(root), "--train_shape_file", str(shapes))
    model = build(path, tmp_path, "--teacher_cache", str(root))
    with pytest.raises(ConfigError, match="utterance u1 is not in the cache"):
        model(**batch_of(data, "u0", "u1"))
    soundfile.write(data / "u4.wav", np.zeros(9999), 16000)
    with pytest.raises(ConfigError, match="heard 10444 samples of u4, which now has 9999"):
        model(**batch_of(data, "u4"))
    assert run(path, data, root) == 1
    assert "1 utterances have other audio now (u4 of" in capsys.readouterr().err


def test_a_killed_caching_goes_on_and_gives_the_same(config, data, tmp_path):
    path, root = config(), tmp_path / "cache"
    slow = "import runpy,sys,time;import espnet2_kd.kd.teachers.cached as c;real=c.FeatureCache.add\n"
    slow += "def add(self,*a):\n real(self,*a);time.sleep(0.5)\nc.FeatureCache.add=add\n"
    slow += "sys.argv=['cache']+sys.argv[1:];runpy.run_module('espnet2_kd.bin.cache_teacher',run_name='__main__')"
    argv = ["--config", path, "--data_dir", data, "--cache_dir", root, "--shard_utts", "2", "--batch_seconds", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *map(str, argv)], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    deadline = time.monotonic() + 120
    while not (any(root.glob("*/index.jsonl")) and index_of(root).read_text().count("\n") >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with index_of(root).open("a") as stream:
        stream.write('{"name": "shard.0')  # as if it had been killed in the middle of a line
    before = {json.loads(line)["name"] for line in index_of(root).read_text().splitlines()[1:-1]}
    assert run(path, data, root) == 0
    assert before < shards_of(root)
    assert run(path, data, tmp_path / "whole") == 0
    batch = batch_of(data, *LENS)
    losses = [build(path, tmp_path, "--teacher_cache", str(at)).eval()(**batch)[0] for at in (root, tmp_path / "whole")]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=0.0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"kd_terms": [{"name": "c", "student": "ctc.ctc_lo", "loss": "output_kl", "weight": 1.0}]},
            "the terms c need labels",
        ),
        ({"teacher": "dual", "teacher_conf": {}}, "a teacher of the kind 'dual' cannot be cached"),
    ],
)
def test_what_cannot_be_cached_is_said_and_runs_alive(config, data, tmp_path, capsys, caplog, options, reason):
    path = config(**options)
    assert run(path, data, tmp_path / "cache") == 0
    assert f"not cached, {reason}" in capsys.readouterr().out and not (tmp_path / "cache").exists()
    model = build(path, tmp_path, "--teacher_cache", str(tmp_path / "cache"))
    assert f"The teacher is not cached, {reason}: it runs with the student" in caplog.text
    model(**batch_of(data, "u0", "u1"))


def test_hugging_face_teachers_are_cached_too(config, data, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 2}
    transformers.HubertModel(transformers.HubertConfig(**sizes)).save_pretrained(tmp_path / "hubert")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "hubert")
    term = {"name": "h", "student": "encoder.encoders.1", "teacher": "encoder.layers.1", "loss": "mse", "weight": 1.0}
    term["head"] = {"frame_rate": {"up": 2}}
    path = config(teacher="hf_speech", teacher_conf={"model": str(tmp_path / "hubert")}, kd_terms=[term])
    assert run(path, data, tmp_path / "cache", "--dtype", "float32") == 0
    living, cached = build(path, tmp_path), build(path, tmp_path, "--teacher_cache", str(tmp_path / "cache"))
    cached.load_state_dict(living.state_dict())
    batch = batch_of(data, "u1", "u6")
    torch.testing.assert_close(cached.eval()(**batch)[0], living.eval()(**batch)[0], rtol=1e-4, atol=0.0)


def test_an_overflow_is_refused(config, teacher, data, tmp_path, capsys):
    state = torch.load(teacher / "valid.loss_transducer.ave.pth", weights_only=True)
    for key in state:
        if key.startswith("encoder.encoders.1.norm_final.weight") or key.endswith("encoders.1.norm_final.weight"):
            state[key] += 1e6
    torch.save(state, teacher / "valid.loss_transducer.ave.pth")
    assert run(config(), data, tmp_path / "cache") == 1
    assert "is not finite in float16: use --dtype float32" in capsys.readouterr().err
    assert run(config(), data, tmp_path / "cache", "--dtype", "float32") == 0
