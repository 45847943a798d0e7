"""barista: slots and paired sentences from the benchmark's layout and from the TSV pack, compared with the lists."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
PACK = SHARED / "picovoice_barista"
needs_pack = pytest.mark.skipif(not PACK.is_dir(), reason="needs shared/data/picovoice_barista")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
SLOTS = ("drink", "size", "roast", "shots", "milk", "sugar")
GRAMMAR = """context:
  expressions:
    orderDrink:
      - "[brew, I'd like] [a, an] $coffeeDrink:coffeeDrink"
      - "[brew, I'd like] [a, an] $size:size $roast:roast $coffeeDrink:coffeeDrink with $milkAmount:milkAmount"
      - "[brew, I'd like] [a, an] $roast:roast $size:size $coffeeDrink:coffeeDrink with $milkAmount:milkAmount"
      - "[brew, I'd like] [a, an] $numberOfShots:numberOfShots $coffeeDrink:coffeeDrink with $sugarAmount:sugarAmount"
  slots:
    size: [medium, "eight ounce"]
    roast: ["medium roast", "dark roast"]
    numberOfShots: ["single shot", "double shot"]
    coffeeDrink: [coffee, "iced coffee"]
    milkAmount: [milk, "a bit of milk", "soy milk", "lots of soy milk"]
    sugarAmount: [sugar, "some sugar"]
"""
ORDERS = [
    {"coffeeDrink": "coffee"},
    {"coffeeDrink": "iced coffee", "size": "medium", "roast": "medium roast", "milkAmount": " soy milk"},
    {"coffeeDrink": "coffee", "numberOfShots": "single shot", "sugarAmount": "some sugar"},
    {"coffeeDrink": "iced coffee", "size": "eight ounce", "roast": "dark roast", "milkAmount": "a bit of milk"},
]


def lists(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=3))


def slots_of(label):
    return dict(pair.split("=") for pair in label.split())


@pytest.fixture
def clone(tmp_path):
    """The benchmark's repository with sixty recordings of four orders."""
    root = tmp_path / "clone"
    for folder in ("data/label", "data/rhino", "data/watson", "data/speech/clean"):
        (root / folder).mkdir(parents=True)
    labels = {}
    for number in range(60):
        soundfile.write(root / f"data/speech/clean/{number:03d}-a.wav", 0.1 * np.sin(np.arange(4000)), 16000)
        labels[f"{number:03d}-a.wav"] = {"intent": "orderDrink", "slots": ORDERS[number % 4]}
    # The benchmark has some labels without a recording.
    labels["lost.wav"] = labels["000-a.wav"]
    (root / "data/label/label.json").write_text(json.dumps(labels))
    (root / "data/rhino/coffee_maker.yaml").write_text(GRAMMAR)
    sentences = "brew a medium medium roast iced coffee with a bit of milk\nI'd like a coffee\n\n"
    (root / "data/watson/corpus.txt").write_text(sentences)
    return root


def test_published_layout(recipe, clone):
    barista = recipe("barista", "slu1")
    done = barista.data("--corpus", clone, "--num_sentences", 40)
    assert done.returncode == 0, done.stderr
    assert "barista: labels without a recording, left out: lost.wav\n" in done.stdout
    assert [name for name in barista.sets() if name != "local"] == ["test", "train", "valid"]
    sizes = {name: len(barista.table(f"{name}/label")) for name in ("train", "valid", "test")}
    assert sum(sizes.values()) == 60 and min(sizes.values()) >= 1 and sizes["train"] > 30
    for name in sizes:
        text, label = barista.table(f"{name}/text"), barista.table(f"{name}/label")
        assert set(text) == set(label) == set(barista.table(f"{name}/wav.scp"))
        for utt, words in text.items():
            order = ORDERS[int(utt[:3]) % 4]
            slots = slots_of(label[utt])
            assert list(slots) == list(SLOTS)
            assert slots["drink"] == order["coffeeDrink"].replace(" ", "_")
            assert slots["milk"] == {1: "soy_milk", 3: "milk"}.get(int(utt[:3]) % 4, "none")
            assert slots["sugar"] == ("sugar" if "sugarAmount" in order else "none")
            for phrase in order.values():
                assert f" {phrase.strip()}" in words
            assert words.startswith(("brew a", "i'd like a")) and "with milk" not in words
            article, letter = re.match(r"(?:brew|i'd like) (an?) (\w)", words).groups()
            assert article == ("an" if letter in "ie" else "a")
    wordings = {text for utt, text in barista.table("train/text").items() if int(utt[:3]) % 4 == 1}
    assert len(wordings) > 2


def test_sentences_and_the_same_again(recipe, clone):
    barista = recipe("barista", "slu1")
    assert barista.data("--corpus", clone, "--num_sentences", 40).returncode == 0
    rows = lists(barista.path / "data/local/sentences.tsv")
    assert len(rows) == len({row["text"] for row in rows}) == 40
    assert rows[0] == {
        "text": "brew a medium medium roast iced coffee with a bit of milk",
        "label": "drink=iced_coffee size=medium roast=medium_roast shots=none milk=milk sugar=none",
    }
    assert rows[1]["text"] == "i'd like a coffee"
    for row in rows:
        for value in set(slots_of(row["label"]).values()) - {"none"}:
            assert value.replace("_", " ") in row["text"]
    files = {path: path.read_bytes() for path in (barista.path / "data").rglob("*") if path.is_file()}
    assert barista.data("--corpus", clone, "--num_sentences", 40).returncode == 0
    assert {path: path.read_bytes() for path in files} == files
    # The small grammar has 2 * (2 + 2 * 2 * 2 * 2 * 4 + 2 * 2 * 2) sentences; the article is not counted.
    done = barista.data("--corpus", clone, "--num_sentences", 5000)
    assert f"{2 * (2 + 64 + 8)} sentences" in done.stdout


def test_faults_are_named(recipe, clone, tmp_path):
    barista = recipe("barista", "slu1")
    done = barista.data("--corpus", tmp_path)
    assert done.returncode == 1 and f"{tmp_path}:0: -: has neither data/label/label.json nor train.tsv" in done.stderr
    path = clone / "data/label/label.json"
    labels = json.loads(path.read_text())
    labels["001-a.wav"]["slots"] = {"coffeeDrink": "tea"}
    labels["002-a.wav"]["slots"] = {"size": "medium"}
    path.write_text(json.dumps(labels))
    done = barista.data("--corpus", clone)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{path}:0: 001-a: drink 'tea' is not in the grammar: correct the slots" in done.stderr
    assert f"{path}:0: 002-a: the grammar has no order of size" in done.stderr
    soundfile.write(clone / "data/speech/clean/new.wav", np.zeros(10), 16000)
    done = barista.data("--corpus", clone)
    assert done.returncode == 1 and f"{path}:0: new: no label, but {clone}/data/speech/clean/new.wav" in done.stderr
    (clone / "data/speech/clean/new.wav").unlink()
    (clone / "data/watson/corpus.txt").write_text("brew a coffee\nbrew a tea\n")
    done = barista.data("--corpus", clone)
    assert "corpus.txt:2: -: names no drink of the grammar: 'brew a tea': remove the line" in done.stderr
    (clone / "data/rhino/coffee_maker.yaml").write_text("context: {slots: {}}\n")
    done = barista.data("--corpus", clone)
    assert done.returncode == 1 and "coffee_maker.yaml:0: -: is no grammar of coffee orders" in done.stderr
    path.write_text("[1]")
    (clone / "data/rhino/coffee_maker.yaml").write_text(GRAMMAR)
    (clone / "data/watson/corpus.txt").write_text("brew a coffee\n")
    done = barista.data("--corpus", clone)
    assert done.returncode == 1 and "label.json:0: -: is no list of labels" in done.stderr
    assert "Traceback" not in done.stderr and not (barista.path / "data").exists()
    assert barista.data("--num_sentences", 0).returncode == 2


@needs_pack
def test_slots_read_from_sentences_are_those_of_the_pack(local_module):
    orders = local_module("barista", "orders", "slu1")
    grammar = orders.Grammar.read(PACK / "grammar_coffee_maker.yaml")
    rows = lists(PACK / "text_only.tsv")
    assert len(rows) == 432
    for row in rows:
        assert orders.label_of(grammar.read_phrases(row["text"])) == {slot: row[slot] for slot in SLOTS}


@needs_pack
def test_real_pack(recipe, local_module):
    barista = recipe("barista", "slu1")
    done = barista.data("--corpus", PACK)
    assert done.returncode == 0, done.stderr
    orders = local_module("barista", "orders", "slu1")
    grammar = orders.Grammar.read(PACK / "grammar_coffee_maker.yaml")
    speakers = {}
    for name, part in {"train": "train", "valid": "dev", "test": "test"}.items():
        rows = {row["utt_id"]: row for row in lists(PACK / f"{part}.tsv")}
        text, label = barista.table(f"{name}/text"), barista.table(f"{name}/label")
        assert len(text) == len(rows) == {"train": 359, "valid": 55, "test": 105}[name]
        for utt, words in text.items():
            row = rows[utt.split("-", 1)[1]]
            assert label[utt] == " ".join(f"{slot}={row[slot].replace(' ', '_')}" for slot in SLOTS)
            phrases = grammar.read_phrases(words)
            assert orders.label_of(phrases) == {slot: row[slot] for slot in SLOTS}
            for slot in ("milk", "sugar"):
                assert phrases.get(slot, "") == row[f"{slot}_amount"]
        speakers[name] = set(barista.table(f"{name}/utt2spk").values())
    assert len(set.union(*speakers.values())) == sum(map(len, speakers.values())) == 44
    rows = lists(barista.path / "data/local/sentences.tsv")
    assert len(rows) == 5000
    own = [row["text"] for row in lists(PACK / "text_only.tsv")]
    assert [row["text"] for row in rows[: len(own)]] == own
    for row in rows[len(own) :: 50]:
        assert slots_of(row["label"]) == {
            slot: value.replace(" ", "_") for slot, value in orders.label_of(grammar.read_phrases(row["text"])).items()
        }


@needs_espeak
def test_tiny_version(recipe):
    barista = recipe("barista", "slu1")
    for _ in range(2):
        done = barista.data("--synthetic", "true")
        assert done.returncode == 0, done.stderr
        sizes = {name: len(barista.table(f"{name}/label")) for name in ("train", "valid", "test")}
        assert sizes == {"train": 40, "valid": 8, "test": 8}
    for utt, entry in barista.table("test/wav.scp").items():
        assert 0.8 < soundfile.info(barista.path / entry).duration < 5 and utt.count("_test") == 1
    assert not (barista.path / "data/unlabelled").exists()


@needs_espeak
def test_sentences_of_the_grammar_are_spoken(recipe, clone):
    """Only their words are told; more of them leave the recordings as they are."""
    barista = recipe("barista", "slu1")
    given = ("--corpus", clone, "--num_sentences", 40)
    assert barista.data(*given).returncode == 0
    sets = {name: (barista.path / "data" / name / "label").read_text() for name in ("train", "valid", "test")}
    done = barista.data(*given, "--num_unlabelled", 7, "--nj", 1)
    assert done.returncode == 0 and "unlabelled: 7 utterances" in done.stdout, done.stderr
    said = list(barista.table("unlabelled/text").values())
    sentences = {row["text"] for row in lists(barista.path / "data/local/sentences.tsv")}
    assert len(set(said)) == 7 and set(said) <= sentences
    assert not (barista.path / "data/unlabelled/label").exists()
    assert sets == {name: (barista.path / "data" / name / "label").read_text() for name in sets}
    assert all(
        soundfile.info(barista.path / wav).duration > 0.5 for wav in barista.table("unlabelled/wav.scp").values()
    )
