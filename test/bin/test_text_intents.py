"""train_text_intents and classify_text: a tiny BERT learns orders, and says what it learned in tables."""

import json
import subprocess
import sys

import pytest
import torch

from espnet2_kd.bin import classify_text, train_text_intents

ACTIONS = {"on": ("on", "up"), "off": ("off", "down"), "play": ("play", "start")}
THINGS = {"lamp": ("lamp", "light"), "heat": ("heat", "warmth"), "radio": ("radio", "music")}
CLASSES = [*(f"action={name}" for name in ACTIONS), *(f"object={name}" for name in THINGS)]
CARRIERS = {
    "train": ("turn {} the {} please", "{} the {}", "could you put {} that {} now", "the {1} {0}"),
    "valid": ("please put {} the {}", "the {1} could you turn {0} now"),
    "test": ("now turn {} that {}", "please the {1} {0}", "{} {}"),
}


@pytest.fixture(scope="module")
def bert(make_bert):
    words = " ".join(line for lines in CARRIERS.values() for line in lines).replace("{}", "").split()
    words += [word for table in (ACTIONS, THINGS) for said in table.values() for word in said]
    return make_bert(words, hidden_size=32, intermediate_size=48, max_position_embeddings=16)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Data directories of orders: the same words in all sets, in sentences that only one has."""
    folder = tmp_path_factory.mktemp("recipe")
    for name, carriers in CARRIERS.items():
        texts, labels = {}, {}
        for action, verbs in ACTIONS.items():
            for thing, nouns in THINGS.items():
                for n, carrier in enumerate(carriers):
                    utt = f"{name}-{n}-{action}-{thing}"
                    texts[utt] = carrier.format(verbs[n % 2], nouns[n // 2 % 2])
                    labels[utt] = f"action={action} object={thing}"
        (folder / "data" / name).mkdir(parents=True)
        for table, content in {"text": texts, "label": labels}.items():
            lines = "".join(f"{utt} {content[utt]}\n" for utt in sorted(content))
            (folder / "data" / name / table).write_text(lines)
    rest = [
        f"{verb} the {noun}\taction={action} object={thing}\n"
        for action, verbs in ACTIONS.items()
        for thing, nouns in THINGS.items()
        for verb, noun in zip(verbs, reversed(nouns))
    ]
    (folder / "sentences.tsv").write_text("text\tlabel\n" + "".join(rest))
    (folder / "tokens.txt").write_text("".join(f"{name}\n" for name in (*CLASSES, "<unk>")))
    return folder


def train(bert, recipe, out, *options):
    argv = ["--model", bert, "--train_dir", recipe / "data/train", "--valid_dir", recipe / "data/valid"]
    argv += ["--token_list", recipe / "tokens.txt", "--output_dir", out, *options]
    return train_text_intents.main(list(map(str, argv)))


def classify(model, data, out, *options):
    argv = ["--model", model, "--data_dir", data, "--output_dir", out, *options]
    return classify_text.main(list(map(str, argv)))


def table(path):
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


@pytest.fixture(scope="module")
def trained(bert, recipe, tmp_path_factory):
    exp = tmp_path_factory.mktemp("exp") / "text_seed1"
    (recipe / "base.yaml").write_text("lr: 3e-3\nmax_epoch: 2\n")
    (recipe / "conf.yaml").write_text(f"base: base.yaml\nmax_epoch: 30\nsentences: {recipe}/sentences.tsv\n")
    assert train(bert, recipe, exp, "--config", recipe / "conf.yaml", "--batch_size", "9") == 0
    return exp


def test_it_learns(trained, recipe, tmp_path, capsys):
    """9 pairs of classes: guessing gives one in nine, half an understanding one in three."""
    assert classify(trained, recipe / "data/test", tmp_path) == 0
    assert f"{tmp_path}: 27 sentences, 2 slots" in capsys.readouterr().out
    found, wanted = table(tmp_path / "label"), table(recipe / "data/test/label")
    assert found.keys() == wanted.keys()
    assert sum(found[utt] == wanted[utt] for utt in wanted) > 0.9 * len(wanted)


def test_the_record(trained):
    record = json.loads((trained / "train.json").read_text())
    assert record["options"] == {
        "seed": 1,
        "max_epoch": 30,
        "batch_size": 9,
        "lr": 3e-3,
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "clip": 1.0,
        "patience": 3,
        "pooling": "cls",
        "dropout_rate": 0.1,
    }
    assert (record["num_train"], record["num_valid"], record["num_classes"]) == (36 + 18, 18, 6)
    numbers = [epoch["epoch"] for epoch in record["epochs"]]
    assert numbers == list(range(1, len(numbers) + 1)) and record["best_epoch"] in numbers and record["finished"]
    best = record["epochs"][record["best_epoch"] - 1]
    assert best["valid_accuracy"] == max(epoch["valid_accuracy"] for epoch in record["epochs"]) > 0.9
    assert record["epochs"][0]["loss"] > 2 * best["loss"]
    assert record["command"].startswith("python -m espnet2_kd.bin.train_text_intents --model ")
    assert record["seed"] == 1 and record["config"].endswith("conf.yaml") and record["num_parameters"] > 10000
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] and "git_hash" in record


def test_tables(trained, recipe, tmp_path):
    """Without labels, in any batches; sentences that a recogniser left empty are classified too."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "text").write_text("a could you turn off the lamp\nb\nc music up\n")
    for size in ("1", "64"):
        assert classify(trained, data, tmp_path / size, "--batch_size", size) == 0
    labels, probabilities = (table(tmp_path / "1" / name) for name in ("label", "probability"))
    assert labels == table(tmp_path / "64/label") and list(labels) == ["a", "b", "c"]
    assert labels["a"] == "action=off object=lamp" and labels["c"] == "action=on object=radio"
    from espnet2_kd.slu.text_model import TextIntentModel

    model = TextIntentModel.load(trained)
    for utt, text in {"a": "could you turn off the lamp", "b": "", "c": "music up"}.items():
        (answer,) = model.predict([text])
        assert labels[utt] == " ".join(f"{slot}={value}" for slot, (value, _) in answer.items())
        assert probabilities[utt] == " ".join(f"{sure:.4f}" for _, sure in answer.values())
        others = map(float, table(tmp_path / "64/probability")[utt].split())
        assert list(map(float, probabilities[utt].split())) == pytest.approx(list(others), abs=2e-4)


def test_progress_and_going_on(bert, recipe, tmp_path, capsys):
    assert train(bert, recipe, tmp_path / "exp", "--max_epoch", "2") == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("epoch 1/2: loss ") and first.endswith(", best so far") and "epoch 2/2" in second
    assert last.startswith(f"{tmp_path}/exp: valid accuracy ") and last.endswith("with 36 training sentences")
    assert train(bert, recipe, tmp_path / "exp", "--max_epoch", "2") == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/exp: already trained, ")
    assert train(bert, recipe, tmp_path / "exp", "--max_epoch", "3") == 1
    assert "holds another training (max_epoch 2, now 3)" in capsys.readouterr().err


def test_wrong_input_is_one_line(bert, recipe, trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(bert, recipe, out, "--lr", "-1") == 1
    assert capsys.readouterr().err == "lr: -1.0: give a number above 0\n"
    assert train(tmp_path / "none", recipe, out) == 1
    assert "none" in capsys.readouterr().err
    assert train(bert, recipe, out, "--sentences", tmp_path / "none.tsv") == 1
    assert "none.tsv:0: -: cannot be read" in capsys.readouterr().err
    (tmp_path / "tokens.txt").write_text("".join(f"{name}\n" for name in CLASSES[1:]))
    assert train(bert, recipe, out, "--token_list", tmp_path / "tokens.txt") == 1
    assert "train/label:4: train-0-on-heat: action=on is not in the list of classes" in capsys.readouterr().err
    (tmp_path / "conf.yaml").write_text("learning_rate: 1\n")
    with pytest.raises(SystemExit):
        train(bert, recipe, out, "--config", tmp_path / "conf.yaml")
    assert "no such option: learning_rate" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train_text_intents.main(["--model", str(bert)])
    assert "required: --train_dir, --valid_dir, --token_list, --output_dir" in capsys.readouterr().err
    assert classify(bert, recipe / "data/test", out) == 1
    assert "intent.json: not found" in capsys.readouterr().err
    (tmp_path / "text").write_text(f"a lamp on\nb {'lamp ' * 15}\n")
    assert classify(trained, tmp_path, out) == 1
    assert f"{tmp_path}/text:2: b: 17 word pieces, and the model reads 16" in capsys.readouterr().err
    assert not out.exists()


def test_classes_that_nothing_teaches_are_named(bert, recipe, tmp_path, capsys):
    (tmp_path / "tokens.txt").write_text("".join(f"{name}\n" for name in (*CLASSES, "object=door")))
    assert train(bert, recipe, tmp_path / "exp", "--max_epoch", "1", "--token_list", tmp_path / "tokens.txt") == 0
    assert "warning: no training sentence of object=door\n" in capsys.readouterr().err


def test_quick_to_start():
    """Options are listed without torch, and nothing of the text model needs ESPnet2's tasks."""
    program = """
import sys
from espnet2_kd.bin import classify_text, train_text_intents
classify_text.get_parser().format_help(), train_text_intents.get_parser().format_help()
assert "torch" not in sys.modules and "transformers" not in sys.modules
import espnet2_kd.slu.text_training
strange = [name for name in sys.modules if name.startswith("espnet2.") and not name.startswith("espnet2.utils")]
assert not strange, strange
"""
    subprocess.run([sys.executable, "-c", program], check=True)
