"""The text intent model: by definition, batched and alone, and what its folder is to others."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.slu import text_model
from espnet2_kd.slu.text_model import TextIntentModel

transformers = pytest.importorskip("transformers")

# The classes of a slot need not stand together.
CLASSES = ["action=on", "object=lamp", "action=off", "object=heat", "object=radio"]
SLOTS = {"action": [0, 2], "object": [1, 3, 4]}
TEXTS = ["turn the lamp on", "off", "could you please switch the radio off now", "heat up"]


def make(encoder, pooling="cls"):
    torch.manual_seed(3)
    model = TextIntentModel.from_encoder(str(encoder), CLASSES, pooling).eval()
    with torch.no_grad():
        model.heads.weight *= 4.0
    return model


@pytest.fixture(scope="module", params=["cls", "mean"])
def saved(request, tiny_bert, tmp_path_factory):
    """A model, and the folder it was saved in."""
    folder = tmp_path_factory.mktemp("exp") / request.param
    model = make(tiny_bert, request.param)
    model.save(folder)
    return model, folder


@torch.no_grad()
def by_hand(folder, pooling, text):
    """Logits of one text in double precision, from nothing but the files."""
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    states = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()(**inputs).last_hidden_state[0]
    vector = states[0] if pooling == "cls" else states.mean(0)
    heads = load_file(folder / "intent.safetensors")
    return [
        sum(float(w) * float(x) for w, x in zip(row, vector)) + float(b)
        for row, b in zip(heads["weight"], heads["bias"])
    ]


def test_the_loss_by_definition(saved):
    model, folder = saved
    wanted = [("object=lamp", "action=on"), ("action=off", "object=heat"), ("action=off", "object=radio")]
    rows = model.pieces(TEXTS[:3])
    found = model.losses(model(*model.pad(rows)), torch.tensor([model.places(classes) for classes in wanted]))
    assert found.shape == (3,)
    for text, classes, loss in zip(TEXTS, wanted, found.tolist()):
        logits = dict(zip(CLASSES, by_hand(folder, model.pooling, text)))
        expected = 0.0
        for slot, ids in SLOTS.items():
            (right,) = (name for name in classes if name.startswith(slot))
            expected -= math.log(math.exp(logits[right]) / sum(math.exp(logits[CLASSES[n]]) for n in ids))
        assert loss == pytest.approx(expected, abs=2e-5)


def test_answers_by_definition(saved):
    model, folder = saved
    for batch_size in (1, 3, 64):
        for text, answer in zip(TEXTS, model.answers(model.pieces(TEXTS), batch_size), strict=True):
            logits = by_hand(folder, model.pooling, text)
            assert list(answer) == list(SLOTS)
            for slot, ids in SLOTS.items():
                best = max(ids, key=logits.__getitem__)
                value, probability = answer[slot]
                assert f"{slot}={value}" == CLASSES[best]
                expected = math.exp(logits[best]) / sum(math.exp(logits[n]) for n in ids)
                assert probability == pytest.approx(expected, abs=1e-5)
    assert model.predict(TEXTS) == model.answers(model.pieces(TEXTS))
    assert model.predict([]) == []


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["tiny_bert", "tiny_roberta"])
def test_a_batch_of_many_is_batches_of_one(kind, pooling, request):
    model = make(request.getfixturevalue(kind), pooling)
    rows = model.pieces(TEXTS)
    assert len({len(row) for row in rows}) > 2
    together = model(*model.pad(rows))
    assert together.std(0).min() > 0.01
    for logits, row in zip(together, rows):
        torch.testing.assert_close(model(*model.pad([row]))[0], logits, rtol=1e-5, atol=1e-5)


def test_a_folder_that_others_open(saved, tmp_path):
    model, folder = saved
    again = TextIntentModel.load(folder)
    assert not again.training and again.classes == CLASSES and again.pooling == model.pooling
    rows = model.pieces(TEXTS)
    assert torch.equal(again(*again.pad(rows)), model(*model.pad(rows)))
    plain = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS[2], return_tensors="pt")
    states = plain(**inputs).last_hidden_state
    assert torch.equal(states, model.encoder(input_ids=model.pad(rows[2:3])[0]).last_hidden_state)
    assert json.loads((folder / "intent.json").read_text()) == {
        "classes": CLASSES,
        "pooling": model.pooling,
        "dropout_rate": 0.1,
        "source": "tiny-bert",
    }
    # It may be tuned again, and then comes from where it was.
    assert TextIntentModel.from_encoder(str(folder), CLASSES).source == model.pooling


def test_it_teaches(saved):
    from espnet2_kd.kd.teachers.hf_text import HFTextTeacher

    model, folder = saved
    teacher = HFTextTeacher(str(folder))
    teacher.use_tokens(["<blank>", "<unk>", "turn", "on", "lamp", "<sos/eos>"])
    teacher.watch({"encoder.layer.1"})
    batch = {"text": torch.tensor([[2, 4, 3]]), "text_lengths": torch.tensor([3])}
    states = model.encoder(input_ids=model.pad(model.pieces(["turn lamp on"]))[0]).last_hidden_state
    torch.testing.assert_close(teacher.observe(batch, {})["encoder.layer.1"].x, states[:, 1:], rtol=1e-5, atol=1e-5)


def test_no_file_knows_where_it_was_made(saved, tiny_bert):
    for path in saved[1].iterdir():
        assert str(tiny_bert.parent).encode() not in path.read_bytes()


def test_a_model_that_was_not_written_to_its_end(tiny_bert, tmp_path, monkeypatch):
    model = make(tiny_bert)
    model.save(tmp_path)
    moved = []

    def stop_at_the_second(source, target):
        if len(moved) == 1:
            raise KeyboardInterrupt
        moved.append(source.rename(target))

    monkeypatch.setattr(text_model.os, "replace", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"intent.json: not found: this is no text intent model, or its training has"):
        TextIntentModel.load(tmp_path)
    model.save(tmp_path)
    assert TextIntentModel.load(tmp_path).predict(TEXTS) == model.predict(TEXTS)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def change(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def drop_weights(path, part):
    state = {key: value for key, value in load_file(path).items() if part not in key}
    save_file(state, path, metadata={"format": "pt"})


DAMAGES = {
    "no description": (lambda f: (f / "intent.json").unlink(), "intent.json: not found"),
    "half a description": (lambda f: cut(f / "intent.json"), "intent.json: is damaged"),
    "another description": (lambda f: (f / "intent.json").write_text("[]\n"), "intent.json: is no description"),
    "classes": (lambda f: change(f / "intent.json", classes="on"), "intent.json: classes: 'on' cannot be"),
    "class names": (lambda f: change(f / "intent.json", classes=["on"]), "intent.json: label 'on': classes are named"),
    "fewer classes": (lambda f: change(f / "intent.json", classes=CLASSES[:3]), "does not fit the 3 classes"),
    "pooling": (lambda f: change(f / "intent.json", pooling="max"), "pooling 'max': one of cls, mean"),
    "no heads": (lambda f: (f / "intent.safetensors").unlink(), "intent.safetensors: is missing or damaged"),
    "half the heads": (lambda f: cut(f / "intent.safetensors"), "intent.safetensors: is missing or damaged"),
    "half the weights": (lambda f: cut(f / "model.safetensors"), "cannot be loaded"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded"),
    "a layer more": (lambda f: change(f / "config.json", num_hidden_layers=3), r"has no weights for encoder.layer.2"),
    "another width": (lambda f: change(f / "config.json", intermediate_size=40), "cannot be loaded"),
    "no pooler": (lambda f: drop_weights(f / "model.safetensors", "pooler"), "has no weights for pooler"),
    "half a config": (lambda f: cut(f / "config.json"), "cannot be loaded"),
    "half a tokenizer": (lambda f: cut(f / "tokenizer.json"), "cannot be loaded"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_folders_are_refused(name, tiny_bert, tmp_path):
    make(tiny_bert).save(tmp_path)
    TextIntentModel.load(tmp_path)
    damage, message = DAMAGES[name]
    damage(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        TextIntentModel.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_encoders_that_do_not_fit(tiny_bert, tmp_path):
    with pytest.raises(ConfigError, match="no/such/place is no directory here"):
        TextIntentModel.from_encoder("no/such/place", CLASSES)
    with pytest.raises(ConfigError, match="classes: give at least one, and none twice"):
        TextIntentModel.from_encoder(str(tiny_bert), [*CLASSES, "action=on"])
    encoder = transformers.AutoModel.from_pretrained(tiny_bert)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.add_tokens(["espresso"])
    with pytest.raises(ConfigError, match=r"mine has \d+ word pieces, but embeddings of \d+"):
        TextIntentModel(encoder, tokenizer, CLASSES, source="mine")
    # A checkpoint of masked words: more than the encoder, and less, as it has no pooler.
    transformers.BertForMaskedLM(encoder.config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    assert len(TextIntentModel.from_encoder(str(tmp_path), CLASSES).eval().predict(TEXTS)) == len(TEXTS)
    (config,) = tmp_path.glob("config.json")
    change(config, num_hidden_layers=3)
    with pytest.raises(ConfigError, match=r"has no weights for encoder.layer.2"):
        TextIntentModel.from_encoder(str(tmp_path), CLASSES)


def test_a_text_that_is_too_long(tiny_bert):
    model = make(tiny_bert)
    assert len(model.predict(["lamp " * 14])) == 1
    with pytest.raises(ConfigError, match=r"'lamp lamp .*has 17 word pieces, the model reads 16"):
        model.predict(["on", "lamp " * 15])
