"""Written sentences and their intents, read from data directories and lists; every fault is named with its line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

from espnet2_kd.data.documents import read_text
from espnet2_kd.data.intents import LabelLine, form_problems, label_lines, parse_label, slots_of
from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.table import read_rows
from espnet2_kd.data.tokenizer import UNK
from espnet2_kd.data.tsv import read_tsv


@dataclass(frozen=True)
class Sentence:
    """A sentence, where it was read, and its classes `slot=value`, if they are known."""

    file: str
    line: int
    utt: str
    text: str
    classes: tuple[str, ...] = ()

    def problem(self, what: str, remedy: str) -> Problem:
        """A fault of this sentence."""
        return Problem(self.file, self.line, self.utt, what, remedy)


class Reader(Protocol):
    """What tells the word pieces of a text."""

    max_pieces: int

    def pieces(self, texts: Sequence[str]) -> list[list[int]]: ...


def read_classes(path: str | PathLike) -> list[str]:
    """Read the classes of a token list, one on each line, without its `<unk>`; raises DataError."""
    problems, classes = [], []
    for number, token in enumerate((line.strip() for line in read_text(path).splitlines()), 1):
        if token == UNK:
            continue
        if parse_label(token) is None or len(token.split()) != 1:
            remedy = "write one class slot=value on each line, as intent=play_music"
            problems.append(Problem(str(path), number, "-", f"{token!r} is no class", remedy))
        elif token in classes:
            problems.append(Problem(str(path), number, "-", f"{token} twice", "keep one line for each class"))
        classes.append(token)
    if not classes:
        problems.append(Problem(str(path), 0, "-", "no classes", "write one class slot=value on each line"))
    if problems:
        raise DataError(problems)
    return classes


def read_texts(data_dir: str | PathLike) -> list[Sentence]:
    """Read the table `text` of a data directory, sentences without a word too; raises DataError."""
    problems: list[Problem] = []
    sentences = _texts(data_dir, problems)
    if problems:
        raise DataError(problems)
    return sentences


def read_labelled(
    train_dir: str | PathLike,
    valid_dir: str | PathLike,
    classes: Sequence[str],
    sentences: str | PathLike | None = None,
) -> tuple[list[Sentence], list[Sentence]]:
    """Read the tables `text` and `label` of a training and a validation set.

    Args:
        classes: all there are, `slot=value`; every label is one of each slot.
        sentences: TSV list with the columns `text` and `label`, added to the training set.

    Raises:
        DataError: with every fault of all files.
    """
    problems: list[Problem] = []
    labels: list[LabelLine] = []
    train = _labelled(train_dir, problems, labels)
    if sentences is not None:
        train += _listed(sentences, problems, labels)
    valid = _labelled(valid_dir, problems, labels)
    problems += form_problems(labels) + _class_problems(labels, classes)
    if problems:
        raise DataError(problems)
    return train, valid


def pieces_of(model: Reader, sentences: Sequence[Sentence]) -> list[list[int]]:
    """Word pieces of every sentence; raises DataError naming those that are longer than the model reads."""
    rows = model.pieces([sentence.text for sentence in sentences])
    problems = [
        sentence.problem(f"{len(row)} word pieces, and the model reads {model.max_pieces}", "shorten it, or drop it")
        for sentence, row in zip(sentences, rows, strict=True)
        if len(row) > model.max_pieces
    ]
    if problems:
        raise DataError(problems)
    return rows


def _texts(data_dir: str | PathLike, problems: list[Problem]) -> list[Sentence]:
    file, earlier = Path(data_dir) / "text", len(problems)
    rows = read_rows(file, problems)
    _add_repetitions(str(file), ((row.line, row.key) for row in rows), problems)
    if not rows and len(problems) == earlier:
        problems.append(Problem(str(file), 0, "-", "no utterances", "give a data directory that has some"))
    return [Sentence(str(file), row.line, row.key, " ".join(row.value.split())) for row in rows]


def _labelled(data_dir: str | PathLike, problems: list[Problem], labels: list[LabelLine]) -> list[Sentence]:
    """Sentences of a data directory with their classes; its label lines are added to `labels`."""
    texts = _texts(data_dir, problems)
    lines = label_lines(data_dir, problems)
    _add_repetitions(str(Path(data_dir) / "label"), ((line.line, line.utt) for line in lines), problems)
    labels += lines
    if not texts or not lines:
        # One line says that the file is missing or empty; one for every utterance would hide it.
        if texts and (Path(data_dir) / "label").is_file():
            problems.append(Problem(str(Path(data_dir) / "label"), 0, "-", "no labels", "write one for each utterance"))
        return []
    by_utt = {line.utt: line for line in lines}
    said = {sentence.utt for sentence in texts}
    problems += [sentence.problem("no words", "write them, or drop it") for sentence in texts if not sentence.text]
    problems += [
        sentence.problem("has no label", f"add it to {data_dir}/label, or drop the utterance")
        for sentence in texts
        if sentence.utt not in by_utt
    ]
    problems += [
        Problem(line.file, line.line, line.utt, "has no text", f"add it to {data_dir}/text, or drop the utterance")
        for line in lines
        if line.utt not in said
    ]
    return [
        Sentence(s.file, s.line, s.utt, s.text, tuple(by_utt[s.utt].value.split())) for s in texts if s.utt in by_utt
    ]


def _listed(path: str | PathLike, problems: list[Problem], labels: list[LabelLine]) -> list[Sentence]:
    try:
        rows = read_tsv(path, ("text", "label"))
    except DataError as error:
        problems += error.problems
        return []
    labels += [LabelLine(row.file, row.line, "-", row.cells["label"]) for row in rows]
    listed = [
        Sentence(row.file, row.line, "-", " ".join(row.cells["text"].split()), tuple(row.cells["label"].split()))
        for row in rows
    ]
    problems += [sentence.problem("no words", "write them, or drop it") for sentence in listed if not sentence.text]
    return listed


def _add_repetitions(file: str, keys: Iterable[tuple[int, str]], problems: list[Problem]) -> None:
    seen: set[str] = set()
    for line, key in keys:
        if key in seen:
            problems.append(Problem(file, line, key, "duplicate id", "keep one line for each id"))
        seen.add(key)


def _class_problems(labels: Iterable[LabelLine], classes: Collection[str]) -> list[Problem]:
    """Labels that lack a slot or have one too many, and values that are no class; labels of no known form are passed over."""
    slots, known = slots_of(list(classes)), set(classes)
    problems = []
    for line in labels:
        label = parse_label(line.value)
        if label is None:
            continue
        if label.keys() != slots.keys():
            what = f"label names {' '.join(label)}, but the list of classes {' '.join(slots)}"
            problems.append(Problem(line.file, line.line, line.utt, what, "name every slot, or make the list again"))
            continue
        problems += [
            Problem(line.file, line.line, line.utt, f"{pair} is not in the list of classes", "correct it, or add it")
            for pair in line.value.split()
            if pair not in known
        ]
    return problems
