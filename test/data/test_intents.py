"""The table `label`: `name=value ...`, the same names everywhere, no value in a test that training never saw."""

from __future__ import annotations

import pytest

from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.intents import check_label_sets, label_line, parse_label
from espnet2_kd.data.words import plain_words

IDS = ("spk0-u000", "spk0-u002", "spk1-u001", "spk1-u003")


def write(folder, *labels):
    (folder / "label").write_text("".join(f"{utt} {label}\n" for utt, label in zip(IDS, labels)))
    return folder


@pytest.mark.parametrize(
    "value", ["", "flight", "=flight", "intent=", "intent=a=b", "1x=a", "intent=a intent=a", "a =b"]
)
def test_other_forms_are_no_label(value):
    assert parse_label(value) is None


def test_slots_survive_writing_and_reading():
    slots = {"action": "change language", "object": "Chinese", "location": "none"}
    assert label_line(slots) == "action=change_language object=Chinese location=none"
    assert parse_label(label_line(slots)) == {**slots, "action": "change_language"}


def test_a_directory_with_good_labels_has_no_problems(make_dir):
    folder = write(make_dir(), *(f"action=a{n} object=b" for n in range(4)))
    assert check_data_dir(folder) == []


def test_every_bad_label_is_named(make_dir):
    folder = write(make_dir(), "action=on object=lamp", "lamp_on", "object=lamp action=on", "action=on")
    assert [str(problem) for problem in check_data_dir(folder)] == [
        (
            "data/train/label:2: spk0-u002: label is not name=value ...: 'lamp_on': "
            "write name=value for each slot, as intent=flight, with _ for blanks in a value"
        ),
        (
            "data/train/label:3: spk1-u001: label names object action, but action object in line 1: "
            "name the same slots in the same order"
        ),
        (
            "data/train/label:4: spk1-u003: label names action, but action object in line 1: "
            "name the same slots in the same order"
        ),
    ]
    write(folder, "a=x b=y", "a=x  b=y", "a=x b=y", "")
    found = [str(problem) for problem in check_data_dir(folder)]
    assert any(line.startswith("data/train/label:2: spk0-u002: repeated or trailing spaces") for line in found)
    assert any(line.startswith("data/train/label:4: spk1-u003: label is not name=value ...: ''") for line in found)


def test_values_that_training_never_saw_are_named(make_dir):
    train = write(make_dir("train"), "a=x b=y", "a=x b=z", "a=w b=y", "a=w b=z")
    test = write(make_dir("test"), "a=y b=y", "a=x b=y", "a=x b=x", "a=x b=z")
    assert check_label_sets(train, [train]) == []
    assert [(p.file, p.line, p.utt, p.what) for p in check_label_sets(train, [test])] == [
        ("data/test/label", 1, "spk0-u000", "a=y never occurs in the training set"),
        ("data/test/label", 3, "spk1-u001", "b=x never occurs in the training set"),
    ]
    write(test, "b=y a=x", "a=x b=y", "a=x b=y", "lamp")
    assert [(p.line, p.what) for p in check_label_sets(train, [test])] == [
        (1, "label names b a, but a b in data/train/label:1"),
        (4, "label is not name=value ...: 'lamp'"),
    ]


def test_no_labels_and_two_of_one_utterance(make_dir):
    train = write(make_dir("train"), "a=x", "a=x", "a=x", "a=x")
    lines = (train / "label").read_text().splitlines()
    (train / "label").write_text("\n".join([*lines, lines[1]]) + "\n")
    assert [(p.line, p.utt, p.what) for p in check_label_sets(train, [])] == [
        (5, lines[1].split()[0], "is in line 2 too")
    ]
    (train / "label").write_text("")
    assert [(p.file, p.what) for p in check_label_sets(train, [])] == [("data/train/label", "has no labels")]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Turn the heat up, please.", "turn the heat up please"),
        ("It\u2019s  'too' loud!", "it's too loud"),
        ("flight 838 to st. louis", "flight 838 to st louis"),
        ("twenty-two_four", "twenty two four"),
        ("?!", ""),
    ],
)
def test_words_without_punctuation(written, said):
    assert plain_words(written) == said
