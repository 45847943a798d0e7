"""A cached text teacher says what the living one says, for every copy of a text; a changed text or model is noticed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from espnet2_kd.bin import cache_teacher
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.teachers.cached import cached_teacher
from espnet2_kd.kd.teachers.hf_text import HFTextTeacher
from espnet2_kd.kd.term import parse_terms
from espnet2_kd.tasks.asr import KDASRTask

transformers = pytest.importorskip("transformers")

TEXTS = {
    "u0": "a cab",
    "u1": "fade",
    "u2": "b b b",
    "u3": "half a file",
    "u4": "gone",
    "u5": "a bad idea",
    "sp0.9-u0": "a cab",
    "sp0.9-u3": "half a file",
    "u6": "",
}
LAYER = "encoder.layer.1"
TERM = {"name": "plm", "student": "decoder", "teacher": LAYER, "head": "projection", "loss": "mse", "weight": 1.0}
PIECES = ["cab", "bad", "##de", *"abcdefghijklmnop", *(f"##{letter}" for letter in "abcdefghijklmnop")]


@pytest.fixture(scope="module")
def saved_bert(make_bert):
    return make_bert(PIECES, max_position_embeddings=30)


@pytest.fixture()
def bert(saved_bert, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(saved_bert, tmp_path / "bert"))


@pytest.fixture()
def config(bert, tiny_experiment, write_student, tmp_path):
    """Function: options of teacher_conf -> path of a student with attention, whose decoder has a state per label."""
    if not hasattr(config, "exp"):
        config.exp = tiny_experiment("asr_text_teacher", seed=3)

    def write(**options):
        conf = {"decoder": "rnn", "decoder_conf": {"hidden_size": 8}, "kd_terms": [TERM], "teacher": "hf_text"}
        conf["teacher_conf"] = {"model": str(bert), **options}
        return write_student(tmp_path / "student.yaml", config.exp, **conf)

    return write


@pytest.fixture()
def tokens(config, tmp_path):
    """The student's token folder."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    token_list = yaml.safe_load(config().read_text())["token_list"]
    (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in token_list))
    (folder / "token_type").write_text("char\n")
    return folder


def write_data_dir(path, texts):
    path.mkdir(exist_ok=True)
    for name, value in (("wav.scp", "/nowhere.wav"), ("utt2spk", "s"), ("text", None)):
        rows = {utt: f"{utt} {text if value is None else value}".strip() for utt, text in texts.items()}
        (path / name).write_text("".join(f"{rows[utt]}\n" for utt in sorted(rows)))
    (path / "spk2utt").write_text(f"s {' '.join(sorted(texts))}\n")
    return path


@pytest.fixture()
def data(tmp_path):
    return write_data_dir(tmp_path / "speech", TEXTS)


def run(config, data, tokens, root, *options):
    argv = ["--config", config, "--data_dir", data, "--cache_dir", root, "--token_dir", tokens, "--shard_utts", "2"]
    return cache_teacher.main(list(map(str, [*argv, "--batch_units", "12", *options])))


def build(path, directory, *options):
    torch.manual_seed(0)
    args = KDASRTask.get_parser().parse_args(["--config", str(path), "--output_dir", str(directory), *options])
    return KDASRTask.build_model(args).eval()


def batch_of(token_list, texts):
    rows = [["<space>" if char == " " else char for char in " ".join(text.split())] for text in texts.values()]
    ids = [torch.tensor([token_list.index(token) for token in row], dtype=torch.long) for row in rows]
    generator = torch.Generator().manual_seed(1)
    return {
        "speech": torch.randn(len(ids), 16000, generator=generator) * 0.1,
        "speech_lengths": torch.full((len(ids),), 16000),
        "text": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1),
        "text_lengths": torch.tensor([len(row) for row in ids]),
        "utt_id": list(texts),
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
@pytest.mark.parametrize("eos", [True, False])
def test_cached_features_are_the_teachers(config, bert, data, tokens, tmp_path, capsys, dtype, tolerance, eos):
    path = config(eos=eos)
    assert run(path, data, tokens, tmp_path / "cache", "--dtype", dtype) == 0
    assert "7 texts" in capsys.readouterr().out  # of nine utterances
    token_list, conf = yaml.safe_load(path.read_text())["token_list"], {"model": str(bert), "eos": eos}
    living = HFTextTeacher(**conf)
    living.use_tokens(token_list)
    cached = cached_teacher(tmp_path / "cache", "hf_text", conf, parse_terms([TERM]), token_list)
    for teacher in (living, cached):
        teacher.watch({LAYER})
    for utts in (["u1"], list(TEXTS)):
        batch = batch_of(token_list, {utt: TEXTS[utt] for utt in utts})
        a, b = (teacher.observe(batch, {})[LAYER] for teacher in (living, cached))
        assert torch.equal(a.lens, b.lens) and torch.equal(a.labels, b.labels)
        assert torch.equal(a.lens, batch["text_lengths"] + eos)
        torch.testing.assert_close(b.x[b.mask], a.x[a.mask], rtol=tolerance, atol=tolerance)
    assert cached.observe({"speech": torch.zeros(1, 9)}, {}) == {}


def test_training_from_the_cache_is_training_from_the_teacher(config, data, tokens, tmp_path):
    assert run(config(), data, tokens, tmp_path / "cache") == 0
    given = ["--teacher_cache", str(tmp_path / "cache")]
    given += ["--train_data_path_and_name_and_type", f"{data}/text,text,text"]
    living, cached = build(config(), tmp_path), build(config(), tmp_path, *given)
    assert [type(model.__dict__["teacher"]).__name__ for model in (living, cached)] == [
        "HFTextTeacher",
        "CachedTextTeacher",
    ]
    cached.load_state_dict(living.state_dict())
    batch = batch_of(living.token_list, {utt: text for utt, text in TEXTS.items() if text})
    a, b = (model(**batch)[1]["loss_kd_plm"] for model in (living, cached))
    torch.testing.assert_close(b, a, rtol=3e-3, atol=0.0)
    with pytest.raises(
        ConfigError, match=r"\[2, 3, 20\] and teacher .* \[2, 2, 16\] on the same text; .* more if `eos`"
    ):
        build(config(eos=False), tmp_path)


def test_a_changed_text_is_named(config, data, tokens, tmp_path):
    path, root = config(), tmp_path / "cache"
    assert run(path, data, tokens, root) == 0
    given = ["--teacher_cache", str(root)]
    model = build(path, tmp_path, *given)
    with pytest.raises(
        ConfigError, match=r"the text of utterance u9 is not in the cache, it is new or has changed \('a cage'\): run"
    ):
        model(**batch_of(model.token_list, {"u0": "a cab", "u9": "a cage"}))
    changed = write_data_dir(tmp_path / "changed", {**TEXTS, "u1": "faded", "u7": "a cab", "u8": "new"})
    given += ["--valid_data_path_and_name_and_type", f"{changed}/text,text,text"]
    with pytest.raises(ConfigError, match=r"2 utterances of .*changed/text are not in the cache \(u1 u8\): run"):
        build(path, tmp_path, *given)
    before = {file: file.stat().st_mtime_ns for file in root.glob("*/*.safetensors")}
    assert run(path, changed, tokens, root) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    build(path, tmp_path, *given)


def test_a_damaged_shard_is_made_again(config, data, tokens, tmp_path, capsys):
    path, root = config(), tmp_path / "cache"
    # The same words in two sets are one entry: a shard that is dropped takes nothing else along.
    more = write_data_dir(tmp_path / "valid", {"v0": "fade", "v1": "gone"})
    argv = ["--config", path, "--data_dir", data, more, "--cache_dir", root, "--token_dir", tokens, "--shard_utts", "2"]
    assert cache_teacher.main(list(map(str, argv))) == 0
    (index,) = root.glob("*/index.jsonl")
    shards = [json.loads(line) for line in index.read_text().splitlines()[1:]]
    names = [utt for shard in shards for utt in shard["utts"]]
    assert len(names) == len(set(names)) == 8
    path_of = {shard["name"]: index.parent / shard["name"] for shard in shards}
    first, *_, last = path_of.values()
    first.write_bytes(first.read_bytes()[:-9])
    last.unlink()
    with pytest.raises(ConfigError, match=rf"{first.name}, {last.name} missing or cut off: run the caching again"):
        build(path, tmp_path, "--teacher_cache", str(root))
    assert run(path, data, tokens, root) == 0
    assert f"{first.name}, {last.name} missing or damaged, made again" in capsys.readouterr().out
    model, living = build(path, tmp_path, "--teacher_cache", str(root)), build(path, tmp_path)
    batch = batch_of(model.token_list, TEXTS)
    a, b = (each.__dict__["teacher"].observe(batch, {})[LAYER] for each in (living, model))
    torch.testing.assert_close(b.x[b.mask], a.x[a.mask], rtol=2e-3, atol=2e-3)


def test_another_model_vocabulary_or_setting_is_not_taken_for_it(config, bert, data, tokens, tmp_path):
    root = tmp_path / "cache"
    assert run(config(), data, tokens, root) == 0

    def refused(path):
        with pytest.raises(ConfigError, match="no features of this teacher and these taps are cached"):
            build(path, tmp_path, "--teacher_cache", str(root))

    build(config(units="auto"), tmp_path, "--teacher_cache", str(root))  # the default, said
    refused(config(lowercase=True))
    refused(config(eos=False))
    path = config()
    conf = yaml.safe_load(path.read_text())
    conf["token_list"][3:5] = conf["token_list"][4:2:-1]
    path.write_text(yaml.safe_dump(conf))
    refused(path)
    pieces = (bert / "vocab.txt").read_text().splitlines()
    (bert / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*pieces[:-2], *pieces[-1:-3:-1]]))
    refused(config())
    assert run(config(), data, tokens, root) == 0
    assert len(list(root.glob("*/index.jsonl"))) == 2


def test_what_cannot_be_aligned_is_found_before_training(config, data, tokens, tmp_path, capsys):
    root = tmp_path / "cache"
    assert run(config(units="one_to_one"), data, tokens, root) == 1
    error = capsys.readouterr().err
    assert re.search(r"utterance \S+ has \d+ units and \d+ word pieces of .*: '.*'; set `units: offsets`", error)
    long = write_data_dir(tmp_path / "long", {"u0": "a", "u1": "ab" * 20})
    assert run(config(), long, tokens, root) == 1
    assert "utterance u1 has 42 word pieces" in capsys.readouterr().err
    argv = ["--config", config(), "--data_dir", data, "--cache_dir", root]
    assert cache_teacher.main(list(map(str, argv))) == 1
    assert "teacher hf_text reads the student's labels: give its token list, --token_dir" in capsys.readouterr().err
    assert run(config(unit="offsets"), data, tokens, root) == 1
    assert "has no keyword 'unit'; did you mean units?" in capsys.readouterr().err


def test_sets_without_transcripts_are_passed_over(config, data, tokens, tmp_path, capsys):
    silent = write_data_dir(tmp_path / "silent", TEXTS)
    (silent / "text").unlink()
    argv = ["--config", config(), "--data_dir", data, silent, "--cache_dir", tmp_path / "cache", "--token_dir", tokens]
    assert cache_teacher.main(list(map(str, argv))) == 0
    assert "7 texts" in capsys.readouterr().out


def test_the_cache_is_filled_without_a_students_help(config, bert, data, tokens, tmp_path):
    """What lies on disk for a sentence is what the model alone says of it."""
    assert run(config(), data, tokens, tmp_path / "cache", "--dtype", "float32") == 0
    model = build(config(), tmp_path, "--teacher_cache", str(tmp_path / "cache"))
    seq = model.__dict__["teacher"].observe(batch_of(model.token_list, {"u5": "a bad idea"}), {})[LAYER]
    tokenizer, plm = transformers.AutoTokenizer.from_pretrained(bert), HFTextTeacher(str(bert)).model
    inputs = tokenizer("a bad idea", return_tensors="pt")
    pieces = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert pieces == ["[CLS]", "a", "bad", "i", "##de", "##a", "[SEP]"]
    with torch.no_grad():
        hidden = plm(**inputs, output_hidden_states=True).hidden_states[2][0]
    # a, space, b a d, space, i, d e, a, end: a space is the beginning of the next word
    torch.testing.assert_close(seq.x[0], hidden[[1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 6]], rtol=1e-5, atol=1e-5)
