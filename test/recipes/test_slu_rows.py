"""The intent recipes: the paper's settings, a step of every config, and fsc and atis from a tiny corpus to packed classifiers."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet2_kd.data.espeak import EspeakError, espeak_version
from espnet2_kd.tasks.config import load_config
from espnet2_kd.tasks.intent import KDIntentTask

transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]
CORPORA = ("fsc", "atis", "barista")
PAPER = ("none", "gru", "std_hidden", "std", "std_interpolate", "std_token_pool", "official_code")
ROWS = {
    "fsc": (*PAPER, "sentence"),
    "atis": (*PAPER, "sentence"),
    "barista": ("none", "gru", "std_hidden", "utterance", "std", "sentence"),
}
EARS = "valid.loss_transducer.ave.pth"
BEST = "valid.acc.ave.pth"
TAG = "classify_valid.acc.ave"
TESTS = ("test", "test_white_5db")
TIMEOUT = 900  # seconds
WORDS = (
    "turn on off the in lights kitchen play music make it heat up to is a what flights from fare show me espresso with"
)


def conf(corpus, name):
    return ROOT / "egs2" / corpus / "slu1/conf" / f"train_{name}.yaml"


def row(corpus, name):
    return load_config(conf(corpus, name))


def every_row():
    return [(corpus, name) for corpus, names in ROWS.items() for name in names]


@pytest.fixture(scope="module")
def bert(make_bert):
    """Directory of a random BERT of twelve thin layers that knows some words, and letters."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789'"
    pieces = [*WORDS.split(), *letters, *(f"##{x}" for x in letters)]
    return make_bert(pieces, num_hidden_layers=12, intermediate_size=16)


def test_rows_and_run_agree():
    for corpus, names in ROWS.items():
        others = {"text", "acoustic"}
        if corpus == "barista":
            others = {"text", "sentence_unlabelled", "none_labelled", "sentence_labelled"}
        others |= {"official_code_plain"} if corpus == "fsc" else set()
        assert {path.stem for path in conf(corpus, "none").parent.glob("*.yaml")} == {
            f"train_{name}" for name in others.union(names)
        }
        script = (ROOT / "egs2" / corpus / "slu1/run.sh").read_text()
        assert set(re.search(r"for name in (none .*); do", script)[1].split()) == set(names)


def test_settings_are_the_papers():
    config = row("fsc", "none")
    sizes = ("size", "attention_heads", "linear_units", "num_blocks", "dropout_rate")
    assert [config["decoder_conf"][key] for key in sizes] == [512, 8, 768, 4, 0.1]
    assert (config["batch_size"], config["max_epoch"], config["model_conf"]["lsm_weight"]) == (64, 100, 0.1)
    assert (config["optim"], config["optim_conf"]["betas"], config["optim_conf"]["eps"]) == ("adam", [0.9, 0.98], 1e-9)
    gru = row("fsc", "gru")
    sizes = ("size", "num_layers", "dropout_rate")
    assert [gru["decoder_conf"][key] for key in sizes] == [128, 1, 0.5]
    assert (gru["batch_size"], gru["max_epoch"], gru["optim"], gru["optim_conf"]) == (64, 20, "adam", {"lr": 0.001})
    assert config["grad_clip"] == gru["grad_clip"] == float("inf")
    for name in ROWS["fsc"]:
        assert row("atis", name) == row("fsc", name)


def test_the_student_is_as_large_as_the_papers():
    from espnet2_kd.slu.classifiers import TransformerClassifier

    model = TransformerClassifier(24, 256, **row("fsc", "none")["decoder_conf"])
    num_parameters = sum(p.numel() for p in model.parameters())
    assert f"{(num_parameters - (512 * 24 + 24)) / 1e6:.2f}" == "7.49"


@pytest.mark.parametrize("corpus", ["fsc", "barista"])
def test_the_rate_of_learning_peaks_where_it_should(corpus):
    """The published schedule at its defaults has its peak at 0.000699; ours for barista is at a thousandth."""
    from espnet2.tasks.abs_task import optim_classes, scheduler_classes

    config = row(corpus, "none")
    optimizer = optim_classes[config["optim"]]([torch.nn.Parameter(torch.zeros(1))], **config["optim_conf"])
    schedule = scheduler_classes[config["scheduler"]](optimizer, **config["scheduler_conf"])
    rates = []
    for update in range(1, 6000):
        schedule.last_epoch = update - 1
        rates.append(schedule.get_lr()[0])
    peak, update = {"fsc": (6.99e-4, 4000), "barista": (1.02e-3, 300)}[corpus]
    assert max(rates) == pytest.approx(peak, rel=2e-3) and rates.index(max(rates)) + 1 == update


def hidden(weights, layers, head="projection"):
    paths = ("embeddings" if layer is None else f"encoder.layer.{layer}" for layer in layers)
    return [(f"decoder.layers.{n}", path, head, weights) for n, path in enumerate(paths)]


def attention(weight, layers, kind="weights"):
    return [
        (
            f"decoder.layers.{n}.self_attn.attention.mean_weights",
            f"encoder.layer.{layer}.attention.self:{kind}",
            None,
            weight,
        )
        for n, layer in enumerate(layers)
    ]


@pytest.mark.parametrize(
    ("corpus", "name"), [pair for pair in every_row() if pair[1] not in ("none", "gru", "sentence")]
)
def test_terms(corpus, name):
    """Layers 3, 6, 9 and 12, weighed 0.625 : 0.125 : 0.250, position by position; in the code other ones."""
    config, baseline = row(corpus, name), row(corpus, "none")
    changed = {"decoder_conf", "model_conf", "batch_type"} if name == "official_code" else set()
    assert {key: config[key] for key in baseline.keys() - changed} == {
        key: value for key, value in baseline.items() if key not in changed
    }
    layers = (1, 2, 4, 5) if corpus == "barista" else (2, 5, 8, 11)
    expected = hidden(0.25 / 0.625, layers)
    if name == "official_code":
        expected = hidden(0.125 / 0.25, (None, 2, 5, 8), "identity") + attention(0.625 / 0.25, layers, "scores")
    elif name == "utterance":
        expected = [("decoder.layers.3", "encoder.layer.5", "projection", 1.6)]
    elif name != "std_hidden":
        expected += attention(0.125 / 0.625, layers)
    match = {"std_interpolate": "interpolate", "std_token_pool": "token_pool", "utterance": "utterance"}
    match["official_code"] = {"pad_text": {"mask": False}}
    for term, (student, teacher, head, weight) in zip(config["kd_terms"], expected, strict=True):
        assert (term["student"], term["teacher"], term.get("head")) == (student, teacher, head)
        assert term["match"] == match.get(name, "pad_text")
        found = term["losses"]["mse"]["weight"] if "losses" in term else term["weight"]
        assert found == pytest.approx(weight)


@pytest.mark.parametrize("corpus", CORPORA)
def test_terms_of_whole_sentences(corpus):
    """The teacher's answers and its last layer; the rest is the baseline's."""
    config, baseline = row(corpus, "sentence"), row(corpus, "none")
    assert {key: config[key] for key in baseline} == baseline
    last = "encoder.layer.5" if corpus == "barista" else "encoder.layer.11"
    assert [(term["student"], term["teacher"], term["weight"]) for term in config["kd_terms"]] == [
        ("decoder", "classes", 1.0),
        ("decoder.layers.3", last, 0.5),
    ]


def test_the_codes_deviations():
    config = row("fsc", "official_code")
    assert config["decoder_conf"]["official_code_compat"] is True
    assert config["model_conf"] == {"lsm_weight": 0.0, "frozen_dropout": True}
    assert config["teacher_conf"] == {"pad_to": "decoder.layers.0", "official_code_compat": True}
    assert all(term["loss"] == {"attention": {"kind": "score"}} for term in config["kd_terms"][4:])


@pytest.mark.parametrize(("corpus", "name"), every_row())
def test_row_learns(corpus, name, bert, tiny_experiment, ears, tmp_path):
    """A step of the model in its own size, on two sentences in frames; padding counts in the released code only."""
    from espnet2.tasks.abs_task import optim_classes

    from espnet2_kd.slu.sentence import SentenceReader

    config, compat = row(corpus, name), name == "official_code"
    tokens = ["action=on", "action=off", "object=none", "object=music", "object=lights", "<unk>"]
    (tmp_path / "tokens.txt").write_text("".join(f"{token}\n" for token in tokens))
    command = ["--config", conf(corpus, name), "--token_list", tmp_path / "tokens.txt", "--output_dir", tmp_path]
    command += ["--acoustic_exp", ears, "--model_conf", "slow_rate=2"]
    if name == "sentence":
        from espnet2_kd.slu.text_model import TextIntentModel

        TextIntentModel.from_encoder(str(bert), tokens[:-1]).save(tmp_path / "text")
    if "teacher" in config:
        command += ["--teacher_conf", f"model={tmp_path / 'text' if name == 'sentence' else bert}"]
    pooled = name == "std_token_pool"
    if pooled:
        command += ["--train_data_path_and_name_and_type", "dump/spans.scp,spans,kaldi_ark"]
    torch.manual_seed(0)
    model = KDIntentTask.build_model(KDIntentTask.get_parser().parse_args(list(map(str, command)))).train()
    assert model.slow.rate == 2 and model.lsm_weight == config["model_conf"]["lsm_weight"]

    rows = [torch.from_numpy(SentenceReader(bert).ids(text)) for text in ("turn on the lights", "play music")]
    batch = {
        "speech": torch.randn(2, 9, 16),
        "speech_lengths": torch.tensor([9, 7]),
        "label": torch.tensor([[0, 4], [0, 3]]),
        "label_lengths": torch.tensor([2, 2]),
        "text": torch.nn.utils.rnn.pad_sequence(rows, True, -1),
        "text_lengths": torch.tensor([len(ids) for ids in rows]),
    }
    if pooled:
        edges = torch.arange(batch["text"].shape[1]).float()
        batch["spans"] = torch.stack((edges, edges + 1), 1).expand(2, -1, 2)
        batch["spans_lengths"] = batch["text_lengths"]
    loss, stats, _ = model(**{key: value.clone() for key, value in batch.items()})
    kd = {key: float(value) for key, value in stats.items() if key.startswith("loss_kd_")}
    assert len(kd) == len(config.get("kd_terms", [])) and all(value > 0 for value in kd.values())
    total = sum(value * float(stats[key.replace("loss_", "weight_", 1)]) for key, value in kd.items())
    assert float(loss.detach()) == pytest.approx(float(stats["loss_task"] if kd else stats["loss"]) + total, rel=1e-5)

    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    optimizer = optim_classes[config["optim"]](
        [p for p in model.parameters() if p.requires_grad], **config["optim_conf"] | {"lr": 0.001}
    )
    loss.backward()
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert {key.split(".")[0] for key in trained} == {"decoder"} | ({"kd"} if kd and not compat else set())
    optimizer.step()
    after = model.state_dict()
    assert {key for key in before if not torch.equal(before[key], after[key])} - {"kd.step"} <= trained
    assert not torch.equal(before["decoder.votes.linear.weight"], after["decoder.votes.linear.weight"])

    model.eval()
    with torch.no_grad():
        padded = torch.nn.functional.pad(batch["speech"], (0, 0, 0, 4))
        alone, together = (model.logits(x, batch["speech_lengths"]) for x in (batch["speech"], padded))
        padding_counts = not torch.allclose(alone, together, atol=1e-4)
        assert padding_counts == compat
        if kd and not compat:
            losses = [float(model(**{**batch, "speech": x})[0]) for x in (batch["speech"], padded)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.fixture(scope="session")  # workers may come back to a module
def ears(tiny_experiment):
    return tiny_experiment("asr_of_the_slu_recipes")


@pytest.mark.parametrize("corpus", ["fsc", "atis"])
def test_the_ears_learn(corpus, tmp_path):
    """The recogniser in its own size: a frame of 256 numbers per 80 ms, of which two make one of the paper's."""
    from espnet2_kd.tasks.asr import KDASRTask

    config = row(corpus, "acoustic")
    assert config["scheduler_conf"]["total_steps"] == config["num_iters_per_epoch"] * config["max_epoch"]
    (tmp_path / "tokens.txt").write_text("\n".join(["<blank>", "<unk>", "a", "b", "c", "<sos/eos>"]) + "\n")
    command = ["--config", conf(corpus, "acoustic"), "--output_dir", tmp_path, "--token_list", tmp_path / "tokens.txt"]
    command += ["--token_type", "char", "--normalize", "utterance_mvn"]
    model = KDASRTask.build_model(KDASRTask.get_parser().parse_args(list(map(str, command)))).train()
    assert (model.encoder.output_size(), model.encoder.frame_ms, model.encoder.context.full) == (256, 80.0, True)
    assert model.ctc is not None  # which aligns words
    speech = {"speech": torch.randn(2, 16000), "speech_lengths": torch.tensor([16000, 12000])}
    loss, _, _ = model(**speech, text=torch.tensor([[2, 3, 4], [3, 2, -1]]), text_lengths=torch.tensor([3, 2]))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_baristas_text_encoder_learns(bert, tmp_path):
    from espnet2_kd.bin.train_text_intents import main

    orders = {"a small espresso": "drink=espresso size=small", "make it a mocha": "drink=mocha size=none"}
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        for table in ("text", "label"):
            lines = (f"utt{n} {(text, label)[table == 'label']}\n" for n, (text, label) in enumerate(orders.items()))
            (tmp_path / name / table).write_text("".join(lines))
        (tmp_path / name / "utt2spk").write_text("utt0 utt0\nutt1 utt1\n")
        (tmp_path / name / "wav.scp").write_text("utt0 a.wav\nutt1 b.wav\n")
    classes = sorted({word for label in orders.values() for word in label.split()})
    (tmp_path / "tokens.txt").write_text("".join(f"{word}\n" for word in [*classes, "<unk>"]))
    (tmp_path / "sentences.tsv").write_text("text\tlabel\n" + "".join(f"{t}\t{x}\n" for t, x in orders.items()))
    options = {"config": conf("barista", "text"), "model": bert, "sentences": tmp_path / "sentences.tsv"}
    options |= {"train_dir": tmp_path / "train", "valid_dir": tmp_path / "valid"}
    options |= {"token_list": tmp_path / "tokens.txt", "output_dir": tmp_path / "exp"}
    assert main([word for name, value in options.items() for word in (f"--{name}", str(value))]) == 0
    assert transformers.AutoModel.from_pretrained(tmp_path / "exp").config.num_hidden_layers == 12


def espeak_is_missing():
    try:
        espeak_version()
    except EspeakError as error:
        return str(error)
    return None


@pytest.fixture
def start(tmp_path, recipe):
    """Return a function that runs a recipe in a copy of its directory, below a project of links to this one."""
    processes = []
    for name in ("espnet2_kd", "utils", "tools", "egs2/TEMPLATE", "egs2/mini"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)

    def call(name, *options):
        for base in ("fsc", "nlu_home"):
            if not (tmp_path / "egs2" / base).exists() and name != base:
                (tmp_path / "egs2" / base).symlink_to(ROOT / "egs2" / base)
        path = tmp_path / "egs2" / name / "slu1"
        if not path.exists():
            recipe(name, "slu1")
        output = path / f"output.{len(processes)}"
        with output.open("w") as stream:
            process = subprocess.Popen(
                ["bash", path / "run.sh", *map(str, options)],
                cwd="/",
                env={**os.environ, "KD_VENV": sys.prefix, "OMP_NUM_THREADS": "1"},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            processes.append(process)
            status = process.wait(TIMEOUT)
        text = output.read_text(encoding="utf-8")
        assert status == 0, text[-5000:]
        assert "Successfully finished." in text
        return path, text

    yield call
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def options(bert, *rows):
    """One noise at one SNR, and hardly any training; the classifiers are as large as the paper's."""
    narrow = "output_size=16 linear_units=16 input_channels=4 num_blocks=2"
    return (
        *("--synthetic", "true", "--seeds", "1", "--nj", "1", "--ngpu", "0", "--num_threads", "1"),
        *("--token_type", "char", "--noises", "white", "--snrs", "5", "--text_model", bert),
        *("--intent_configs", " ".join(f"conf/train_{name}.yaml" for name in rows)),
        "--acoustic_args",
        " ".join(f"--encoder_conf {setting}" for setting in narrow.split())
        + " --max_epoch 1 --num_iters_per_epoch 4 --batch_bins 400000",
        *("--intent_args", "--max_epoch 2 --num_iters_per_epoch 4 --scheduler_conf warmup_steps=100"),
    )


def table(path):
    return dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())


def exact_match(ref, hyp):
    """Share in percent of utterances all of whose slots are right; every one must have an answer."""
    assert ref.keys() == hyp.keys() and ref
    slots = {word.partition("=")[0] for line in ref.values() for word in line.split()}
    assert all({word.partition("=")[0] for word in line.split()} == slots for line in hyp.values())
    return 100 * sum(set(ref[utt].split()) == set(hyp[utt].split()) for utt in ref) / len(ref)


def check_results(path, rows):
    """What RESULTS.md says of every system in quiet and in noise is what its labels say, and those are complete."""
    text = (path / "RESULTS.md").read_text(encoding="utf-8")
    page = (path / "exp/report/index.html").read_text(encoding="utf-8")
    assert page.count('"sound":"') > len(TESTS)  # speech of every set was found
    assert "(synthetic speech)" in text.splitlines()[2]
    block = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()
    header, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in block)
    assert header == ["system", "clean", "5 dB"]
    reference = table(path / "data/test/label")
    found = {line[0].removesuffix(" †"): line[1:] for line in lines}
    assert list(found) == ["text_train_text", *(f"intent_train_{name}" for name in rows)]
    for system, cells in found.items():
        sets = TESTS[:1] if system.startswith("text_") else TESTS
        for dset, cell in zip(sets, cells, strict=False):
            hyp = table(path / f"exp/{system}_seed1" / TAG / dset / "label")
            assert cell == f"{exact_match(reference, hyp):.2f}"
    quiet, noisy = (
        {
            utt: kaldiio.load_mat(str(path / place))
            for utt, place in table(path / f"dump/frames/{dset}/frames.scp").items()
        }
        for dset in TESTS
    )
    assert quiet.keys() == noisy.keys() == reference.keys()
    assert all(quiet[utt].shape == noisy[utt].shape for utt in quiet)
    assert not any(np.allclose(quiet[utt], noisy[utt], atol=1e-3) for utt in quiet)


def check_packed(path, name, folder):
    """The archive alone, somewhere else, answers a recording as the experiment does, and as the experiment's table says."""
    from espnet2_kd.tasks.intent_classifier import IntentClassifier

    exp = path / f"exp/intent_train_{name}_seed1"
    folder.mkdir()
    packed = IntentClassifier.from_pretrained(shutil.copy(exp / f"{exp.name}.zip", folder))
    trained = IntentClassifier.from_pretrained(exp, BEST)
    utt, wav = next(iter(table(path / "dump/raw/test/wav.scp").items()))
    speech, rate = soundfile.read(path / wav, dtype="float32")
    assert packed.rate == rate == 16000
    found, expected = packed(speech), trained(speech)
    assert found.keys() == expected.keys()
    for slot, (value, probability) in expected.items():
        assert found[slot] == (value, pytest.approx(probability, abs=1e-6))
    if "official" not in name:  # which hears the padding of its batch
        said = {f"{slot}={value}" for slot, (value, _) in found.items()}
        assert said == set(table(exp / TAG / "test/label")[utt].split())


def checkpoints(path):
    files = sorted(path.glob("exp/*/*.pth")) + sorted(path.glob("exp/*/train.log*"))
    assert len(files) > 8
    return {str(file): (file.lstat().st_mtime_ns, file.lstat().st_size) for file in files}


@pytest.mark.slow
@pytest.mark.skipif(espeak_is_missing() is not None, reason=str(espeak_is_missing()))
def test_fsc(start, bert, tmp_path):
    """Three slots, and a teacher whose word pieces are aligned; a second run does nothing."""
    rows = ("none", "std_token_pool")
    path, _ = start("fsc", *options(bert, *rows))
    check_results(path, rows)
    check_packed(path, "std_token_pool", tmp_path / "packed")
    config = yaml.safe_load((path / "exp/intent_train_std_token_pool_seed1/config.yaml").read_text())
    assert config["teacher_conf"]["model"] == "exp/text_train_text_seed1"
    before, report = checkpoints(path), (path / "RESULTS.md").read_bytes()
    _, text = start("fsc", *options(bert, *rows))
    assert checkpoints(path) == before and (path / "RESULTS.md").read_bytes() == report
    assert re.findall(r"slu.sh:\d+:main\) Stage (\d+):", text) == [str(n) for n in range(1, 11)]
    assert "epoch started" not in text
    for name in ("asr_train_acoustic", "text_train_text", *(f"intent_train_{name}" for name in rows)):
        assert f"Done before: exp/{name}_seed1\n" in text


@pytest.mark.slow
@pytest.mark.skipif(espeak_is_missing() is not None, reason=str(espeak_is_missing()))
def test_atis(start, bert, ears, tmp_path):
    """One intent, LDC's layout, the ears of another recipe, and the paper's own code."""
    rows = ("official_code",)
    path, text = start("atis", *options(bert, *rows), "--acoustic_exp", ears)
    check_results(path, rows)
    check_packed(path, "official_code", tmp_path / "packed")
    assert not list(path.glob("exp/asr_*"))
    labels = table(path / "data/train/label")
    tokens = (path / "data/token_list/label/tokens.txt").read_text().split()
    assert set(tokens) == {*labels.values(), "<unk>"} and all(token.startswith("intent=") for token in tokens[:-1])


@pytest.mark.slow
@pytest.mark.skipif(espeak_is_missing() is not None, reason=str(espeak_is_missing()))
@pytest.mark.parametrize("corpus", ["nlu_home", "barista"])
def test_sentences_without_intents(corpus, start, bert, ears, tmp_path):
    """They teach a classifier too: of one intent, and of several slots."""
    rows = ("none", "sentence_unlabelled")
    sentences = [
        f"{verb} the {what} please" for verb in ("show", "find", "heat", "turn") for what in ("kitchen", "music")
    ]
    (tmp_path / "sentences.txt").write_text("".join(f"{sentence}\n" for sentence in sentences))
    said = f"--num_unlabelled 8{f' --unlabelled_text {tmp_path}/sentences.txt' if corpus == 'nlu_home' else ''}"
    more = ("--unlabelled_set", "unlabelled", "--acoustic_exp", ears, "--local_data_opts", said)
    if corpus == "barista":
        more += ("--token_type", "word")
    path, _ = start(corpus, *options(bert, *rows), *more)
    check_results(path, rows)
    if corpus == "nlu_home":
        assert sorted(table(path / "data/unlabelled/text").values()) == sorted(sentences)
    assert len(table(path / "data/unlabelled/text")) == 8
    assert not (path / "data/unlabelled/label").exists() and not (path / "dump/frames/unlabelled/label").exists()
    log = (path / "exp/intent_train_sentence_unlabelled_seed1/train.log").read_text()
    assert "unlabelled speech teaches the terms answers, meaning" in log
    config = yaml.safe_load((path / "exp/intent_train_sentence_unlabelled_seed1/config.yaml").read_text())
    given = [name for _, name, _ in config["unlabelled_data_path_and_name_and_type"]]
    assert given == ["speech", "text"]
    if corpus == "barista":
        check_labels_of_the_grammar(path, start, (*options(bert, "none_labelled"), *more))


def check_labels_of_the_grammar(path, start, options):
    """The same orders with their slots, as many as recordings: a training set like another."""

    def label_spoken():
        env = {**os.environ, "KD_VENV": sys.prefix}
        return subprocess.run([path / "local/label_spoken.sh"], env=env, capture_output=True, text=True, timeout=60)

    assert label_spoken().returncode == 0
    joined, slots = (
        path / "dump/frames/train_labelled",
        dict(line.split("\t") for line in (path / "data/local/sentences.tsv").read_text().splitlines()),
    )
    labels = table(path / "dump/frames/train/label")
    expected = {f"{utt}-copy1": label for utt, label in labels.items()}
    expected |= {utt: slots[text] for utt, text in table(path / "data/unlabelled/text").items()}
    assert len(labels) == 40 and len(expected) == 48 and table(joined / "label") == expected
    for name in ("frames.scp", "frames_shape", "text", "utt2spk"):
        assert table(joined / name).keys() == expected.keys()
    start("barista", *options, "--train_set", "train_labelled", "--stage", "7", "--stop_stage", "7")
    config = yaml.safe_load((path / "exp/intent_train_none_labelled_seed1/config.yaml").read_text())
    given = [place for place, *_ in config["train_data_path_and_name_and_type"]]
    assert given == [f"dump/frames/train_labelled/{name}" for name in ("frames.scp", "label")]

    # With fewer recordings than orders, each comes several times.
    for name in ("frames.scp", "frames_shape", "label", "text", "utt2spk"):
        file = path / "dump/frames/train" / name
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:3]))
    assert label_spoken().returncode == 0
    few = [f"{utt}-copy{n}" for utt in list(labels)[:3] for n in (1, 2, 3)]
    assert (
        table(joined / "label").keys()
        == table(joined / "frames.scp").keys()
        == {*few, *expected} - {f"{utt}-copy1" for utt in list(labels)[3:]}
    )

    (path / "dump/frames/unlabelled/text").write_text("a-1 an order that nobody wrote\n")
    done = label_spoken()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert 'dump/frames/unlabelled/text:1: a-1: the sentences of the grammar do not have "an order that' in done.stderr
    assert not (joined / ".done").exists()
