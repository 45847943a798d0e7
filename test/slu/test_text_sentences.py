"""Sentences and their intents as files: what is read, and that every fault is named."""

import pytest

from espnet2_kd.data.problems import DataError
from espnet2_kd.slu.text_sentences import Sentence, read_classes, read_labelled, read_texts

CLASSES = ["action=on", "action=off", "object=lamp"]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "valid"):
        write(tmp_path / "data" / name / "text", "u1 lamp on\nu2 the lamp off\n")
        write(tmp_path / "data" / name / "label", "u1 action=on object=lamp\nu2 action=off object=lamp\n")
    write(tmp_path / "list.tsv", "label\tnote\ttext\naction=on object=lamp\tx\tlight it\n")
    return tmp_path


def problems(call, *args):
    with pytest.raises(DataError) as caught:
        call(*args)
    return [f"{p.file}:{p.line}: {p.utt}: {p.what}" for p in caught.value.problems]


def read(tsv=None):
    return read_labelled("data/train", "data/valid", CLASSES, tsv)


def test_sentences_of_directories_and_of_a_list(data):
    train, valid = read("list.tsv")
    on, off = ("action=on", "object=lamp"), ("action=off", "object=lamp")
    assert valid == [
        Sentence("data/valid/text", 1, "u1", "lamp on", on),
        Sentence("data/valid/text", 2, "u2", "the lamp off", off),
    ]
    assert [(s.text, s.classes) for s in train] == [("lamp on", on), ("the lamp off", off), ("light it", on)]
    assert train[2] == Sentence("list.tsv", 2, "-", "light it", on)


def test_every_fault_of_all_files_is_named(data):
    write(data / "data/train/text", "u1 lamp on\nu2\nu2 lamp\nu4 lamp off\n")
    write(data / "data/train/label", "u1 action=up object=lamp\nu2 action=off object=lamp\nu3 action=on object=lamp\n")
    write(data / "data/valid/label", "u1 action=on\nu2 object=lamp action=on\n")
    write(data / "list.tsv", "text\tlabel\non\tlamp\n\taction=on object=lamp\n")
    assert problems(read, "list.tsv") == [
        "data/train/text:3: u2: duplicate id",
        "data/train/text:2: u2: no words",
        "data/train/text:4: u4: has no label",
        "data/train/label:3: u3: has no text",
        "list.tsv:3: -: no words",
        "list.tsv:2: -: label is not name=value ...: 'lamp'",
        "data/valid/label:1: u1: label names action, but action object in data/train/label:1",
        "data/valid/label:2: u2: label names object action, but action object in data/train/label:1",
        "data/train/label:1: u1: action=up is not in the list of classes",
        "data/valid/label:1: u1: label names action, but the list of classes action object",
    ]


def test_files_that_are_not_there_or_empty(data):
    (data / "data/train/label").unlink()
    write(data / "data/valid/text", "")
    assert problems(read, "none.tsv") == [
        "data/train/label:0: -: cannot be read (No such file or directory)",
        "none.tsv:0: -: cannot be read (No such file or directory)",
        "data/valid/text:0: -: no utterances",
    ]
    write(data / "data/train/label", "")
    assert problems(read)[0] == "data/train/label:0: -: no labels"
    assert problems(read_texts, "data/none") == ["data/none/text:0: -: cannot be read (No such file or directory)"]


def test_texts_alone_may_be_empty(data):
    write(data / "data/heard/text", "a lamp  on\nb\n")
    assert [(s.utt, s.text, s.classes) for s in read_texts("data/heard")] == [("a", "lamp on", ()), ("b", "", ())]


def test_classes(data):
    assert read_classes(write(data / "tokens.txt", "action=on\nobject=lamp\n<unk>\n")) == ["action=on", "object=lamp"]
    write(data / "tokens.txt", "<blank>\na=b\na=b\na=b c=d\n<unk>\n")
    assert problems(read_classes, "tokens.txt") == [
        "tokens.txt:1: -: '<blank>' is no class",
        "tokens.txt:3: -: a=b twice",
        "tokens.txt:4: -: 'a=b c=d' is no class",
    ]
    write(data / "tokens.txt", "<unk>\n")
    assert problems(read_classes, "tokens.txt") == ["tokens.txt:0: -: no classes"]
    assert "cannot be read" in problems(read_classes, "none.txt")[0]
