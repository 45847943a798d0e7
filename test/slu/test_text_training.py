"""Fine-tuning on intents: rates, batches, what is kept, and that stopping half-way changes nothing."""

import json
import math
import random

import pytest
import torch

from espnet2_kd.data.problems import DataError
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.slu import text_training
from espnet2_kd.slu.text_model import TextIntentModel
from espnet2_kd.slu.text_options import TextOptions
from espnet2_kd.slu.text_sentences import Sentence
from espnet2_kd.slu.text_training import TextTraining, by_length, rate_factor, train_text_model

pytest.importorskip("transformers")

CLASSES = ["action=on", "object=lamp", "action=off", "object=heat", "object=radio"]


def sentences(*pairs):
    return [Sentence("data/text", n, f"u{n}", text, classes) for n, (text, classes) in enumerate(pairs, 1)]


TRAIN = sentences(
    *(
        (f"{polite} turn {action} the {thing} {when}", (f"action={action}", f"object={thing}"))
        for polite in ("", "please", "could you")
        for action in ("on", "off")
        for thing in ("lamp", "heat", "radio")
        for when in ("", "now")
    )
)
VALID = sentences(
    ("put it on the radio", ("object=radio", "action=on")),
    ("switch off lamp", ("action=off", "object=lamp")),
    ("the heat off", ("action=off", "object=heat")),
)


def train(encoder, folder, say=lambda line: None, train=TRAIN, valid=VALID, **options):
    options = {"max_epoch": 4, "batch_size": 8, "lr": 1e-3, "patience": 0, **options}
    return train_text_model(str(encoder), CLASSES, train, valid, TextOptions(**options), folder, say=say)


def weights(folder):
    return TextIntentModel.load(folder).state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def epochs(record):
    return [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in record["epochs"]]


@pytest.fixture(scope="module")
def uninterrupted(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(tiny_bert, folder), folder


def test_rates():
    # Ten steps, of which two rise.
    found = [rate_factor(step, 10, 0.2) for step in range(1, 11)]
    assert found == pytest.approx([1 / 2, 1, *(n / 9 for n in range(8, 0, -1))])
    assert [rate_factor(step, 4, 0.0) for step in range(1, 5)] == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])
    assert rate_factor(1, 1, 0.1) == 1


def test_batches_of_about_equal_length():
    rng = random.Random(0)
    lens = [rng.randrange(3, 9) for _ in range(50)]
    drawn = [by_length(lens, 8, random.Random(seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    shortest = sorted(lens)
    for batches in (*drawn, by_length(lens, 8)):
        assert sorted(n for batch in batches for n in batch) == list(range(50))
        assert sorted(map(len, batches)) == [2] + [8] * 6
        # No batch reaches further than its share of the sorted lengths.
        spans = sorted((min(lens[n] for n in batch), max(lens[n] for n in batch), len(batch)) for batch in batches)
        start = 0
        for low, high, num in spans:
            assert (low, high) == (shortest[start], shortest[start + num - 1])
            start += num
    order = [[lens[batch[0]] for batch in batches] for batches in drawn]
    assert order[0] != sorted(order[0]) and order[0] != order[2]


def test_losses_and_accuracy_are_means_over_sentences(tiny_bert, tmp_path):
    """With a rate of nothing the sentences are only looked at, in batches of 8 and one of 4."""
    config = json.loads((tiny_bert / "config.json").read_text())
    for path in tiny_bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "config.json").write_text(json.dumps({**config, **still}))
    some = TRAIN[:20]
    record = train(
        tmp_path, tmp_path / "out", train=some, valid=some, lr=1e-12, weight_decay=0.0, dropout_rate=0.0, max_epoch=1
    )
    model = TextIntentModel.load(tmp_path / "out").double()
    total, right = 0.0, 0
    for sentence in some:
        logits = dict(zip(CLASSES, model(*model.pad(model.pieces([sentence.text])))[0].tolist()))
        hits = []
        for slot in ("action", "object"):
            names = [name for name in CLASSES if name.startswith(slot)]
            (wanted,) = set(names) & set(sentence.classes)
            total -= math.log(math.exp(logits[wanted]) / sum(math.exp(logits[name]) for name in names))
            hits.append(max(names, key=logits.get) == wanted)
        right += all(hits)
    (epoch,) = record["epochs"]
    assert epoch["loss"] == pytest.approx(total / 20, abs=1e-5)
    assert epoch["valid_loss"] == pytest.approx(total / 20, abs=1e-5)
    assert epoch["valid_accuracy"] == right / 20


def test_what_a_step_does(tiny_bert):
    """The first step of AdamW is the rate times the sign of the gradient, after a decay of matrices only."""
    options = TextOptions(batch_size=100, max_epoch=1, lr=1e-3, weight_decay=0.5, clip=1e9)
    model = TextIntentModel.from_encoder(str(tiny_bert), CLASSES)
    examples = text_training._examples(model, TRAIN)
    before = {name: value.clone() for name, value in model.named_parameters()}
    TextTraining(model, options, examples, examples).run_epoch()
    moved = 0
    for name, value in model.named_parameters():
        if value.grad is None:
            assert "pooler" in name and torch.equal(value, before[name])
            continue
        decay = 0.5 if value.dim() > 1 else 0.0
        expected = before[name] * (1 - 1e-3 * decay) - 1e-3 * value.grad / (value.grad.abs() + 1e-8)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
        moved += int((value != before[name]).sum())
    assert moved > 1000


def test_the_same_seed_gives_the_same_model(uninterrupted, tiny_bert, tmp_path):
    record, folder = uninterrupted
    again = train(tiny_bert, tmp_path / "again")
    assert epochs(again) == epochs(record) and same(weights(tmp_path / "again"), weights(folder))
    other = train(tiny_bert, tmp_path / "other", seed=2)
    assert epochs(other) != epochs(record) and not same(weights(tmp_path / "other"), weights(folder))


@pytest.mark.parametrize("moment", ["after epoch 2", "before epoch 3 is kept", "while the model is saved"])
def test_going_on_is_never_having_stopped(moment, uninterrupted, tiny_bert, tmp_path, monkeypatch):
    said = []

    def say(line):
        said.append(line)
        if moment == "after epoch 2" and line.startswith("epoch 2/"):
            raise KeyboardInterrupt

    def stop(path, state, write=text_training._write_state):
        # After the weights of a new best epoch, before the checkpoint that names it.
        if len(state.get("epochs", ())) == 3:
            raise KeyboardInterrupt
        write(path, state)

    def half_save(self, folder, save=TextIntentModel.save):
        save(self, folder)
        (folder / "intent.json").unlink()
        raise KeyboardInterrupt

    if moment == "before epoch 3 is kept":
        monkeypatch.setattr(text_training, "_write_state", stop)
    if moment == "while the model is saved":
        monkeypatch.setattr(TextIntentModel, "save", half_save)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_bert, tmp_path, say)
    monkeypatch.undo()
    assert not json.loads((tmp_path / "train.json").read_text())["finished"]
    with pytest.raises(ConfigError, match="its training has not ended"):
        TextIntentModel.load(tmp_path)
    # What else the process drew in between must not matter.
    torch.rand(5), random.random()
    said.clear()
    record = train(tiny_bert, tmp_path, said.append)
    expected, folder = uninterrupted
    assert epochs(record) == epochs(expected) and record["best_epoch"] == expected["best_epoch"]
    assert same(weights(tmp_path), weights(folder))
    done = 4 if moment == "while the model is saved" else 2
    assert said[0] == f"{tmp_path}: going on after epoch {done}"
    assert [line.split(":")[0] for line in said[1:-1]] == [f"epoch {n}/4" for n in range(done + 1, 5)]
    assert not list(tmp_path.glob("*.pth"))


def test_the_best_epoch_is_kept(tiny_bert, tmp_path, monkeypatch):
    """By accuracy; of equal ones by loss; of equal losses the first. Then no more is tried than `patience` says."""
    scores = [(0.5, 0.4), (0.4, 0.6), (0.3, 0.6), (0.3, 0.6), (0.2, 0.5), (0.1, 0.5), (0.1, 0.9)]
    seen = []

    def validate(self):
        seen.append({key: value.clone() for key, value in self.model.state_dict().items()})
        return scores[len(seen) - 1]

    monkeypatch.setattr(TextTraining, "validate", validate)
    record = train(tiny_bert, tmp_path, max_epoch=7, patience=3)
    assert record["best_epoch"] == 3 and len(record["epochs"]) == len(seen) == 6
    assert same(weights(tmp_path), seen[2]) and not same(seen[2], seen[5])
    seen.clear()
    assert len(train(tiny_bert, tmp_path / "patient", max_epoch=7)["epochs"]) == 7


def test_a_finished_training_is_left_alone(uninterrupted, tiny_bert, tmp_path):
    record, folder = uninterrupted
    files = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    said = []
    assert train(tiny_bert, folder, said.append) == record
    assert len(said) == 1 and said[0].startswith(f"{folder}: already trained, valid accuracy ")
    with pytest.raises(
        ConfigError, match=r"holds another training \(lr 0.001, now 0.002; seed 1, now 5\)|seed 1, now 5; lr"
    ):
        train(tiny_bert, folder, lr=2e-3, seed=5)
    with pytest.raises(ConfigError, match=r"holds another training \(other sentences, classes or encoder\)"):
        train(tiny_bert, folder, train=TRAIN[1:])
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == files
    assert record["num_train"] == 36 and record["num_valid"] == 3 and record["source"] == "tiny-bert"


def test_folders_that_cannot_be_gone_on_with(tiny_bert, tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_bert, tmp_path, stop)
    checkpoint = tmp_path / "text_checkpoint.pth"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-1000])
    with pytest.raises(ConfigError, match=r"text_checkpoint.pth: is missing or damaged .*to train again"):
        train(tiny_bert, tmp_path)
    torch.save({"model": {}}, checkpoint)
    with pytest.raises(ConfigError, match=r"text_checkpoint.pth: is no checkpoint of this training"):
        train(tiny_bert, tmp_path)
    checkpoint.write_bytes(whole)
    record = (tmp_path / "train.json").read_text()
    (tmp_path / "train.json").write_text(record[:50])
    with pytest.raises(ConfigError, match=r"train.json: is damaged"):
        train(tiny_bert, tmp_path)
    (tmp_path / "train.json").unlink()
    with pytest.raises(ConfigError, match=r"has text_checkpoint.pth, but no train.json"):
        train(tiny_bert, tmp_path)


def test_what_cannot_be_trained(tiny_bert, tmp_path):
    long = sentences(("lamp on", ("action=on", "object=lamp")), ("lamp " * 20, ("action=on", "object=lamp")))
    with pytest.raises(
        DataError, match=r"^data/text:2: u2: 22 word pieces, and the model reads 16: shorten it, or drop"
    ):
        train(tiny_bert, tmp_path, train=long)
    with pytest.raises(ConfigError, match=r"epoch \d: the loss is (nan|inf): lower --lr"):
        train(tiny_bert, tmp_path, lr=1e36, clip=1e30)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_epoch": 0}, "max_epoch: 0: give a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size: 2.5: give a whole number"),
        ({"lr": 0.0}, "lr: 0.0: give a number above 0"),
        ({"lr": math.nan}, "lr: nan"),
        ({"warmup_ratio": 1.0}, "warmup_ratio: 1.0: give a number of at least 0 and below 1"),
        ({"dropout_rate": "a"}, "dropout_rate: 'a'"),
        ({"weight_decay": -1}, "weight_decay: -1"),
        ({"pooling": "max"}, "pooling: 'max': one of cls, mean"),
    ],
)
def test_options_that_cannot_be(option, message):
    with pytest.raises(ConfigError, match=message):
        TextOptions(**option)
