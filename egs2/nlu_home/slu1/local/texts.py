"""Sentences with intents from NLU-Evaluation-Data, as published or as a TSV pack, kept apart by set."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.spoken import keyed_rng
from espnet2_kd.data.tsv import TsvRow, read_tsv
from espnet2_kd.data.words import plain_words

SPLITS = ("train", "valid", "test")
PACK_PARTS = {"train": "train", "valid": "dev", "test": "test"}
NAMES = ("text_nlu_home", "NLU-Evaluation-Data")
UNLABELLED = Path("text_slurp/lm.txt")
# The first of the ten folds on which the corpus's own paper reports.
FOLD = Path("CrossValidation/autoGeneFromRealAnno/autoGene_2018_03_22-13_01_25_169/CrossValidation/KFold_1")
COLUMNS = ("scenario", "intent", "answer_from_anno")
VALID_SHARE = 0.1
_UNSPEAKABLE = re.compile(r"[^A-Za-z\u2019' .,?!:;\"_-]")


def spoken_words(text: str) -> str:
    """Return the words that a voice says; raises ValueError where signs or digits leave open what they are."""
    text = text.replace("@", " at ")
    if found := _UNSPEAKABLE.search(text):
        raise ValueError(f"{found.group()!r} may be said in several ways")
    return plain_words(text)


def fold_of(place: Path) -> Path | None:
    """Return the folder of the fold when `place` is the repository, or that folder itself."""
    for folder in (place, place / FOLD):
        if (folder / "trainset").is_dir() and (folder / "testset" / "csv").is_dir():
            return folder
    return None


def find_texts(given: Path | None) -> Path:
    """Return the given folder or one in a usual place; raises DataError where the texts are not."""
    for place in [given] if given else usual_places(NAMES):
        if (place / "train.tsv").is_file() or fold_of(place):
            return place
    remedy = "git clone https://github.com/xliuhw/NLU-Evaluation-Data and give its folder: --texts DIR"
    if given is None:
        raise one_problem("NLU-Evaluation-Data", "is in no usual place", remedy)
    raise one_problem(given, f"has neither train.tsv nor {FOLD}/trainset", remedy)


def read_csv(paths: Sequence[Path]) -> list[TsvRow]:
    """Read the published lists, one file for each intent, as rows with `text` and `intent`; raises DataError."""
    rows, problems = [], []
    for path in paths:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=";")
            if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
                what = f"header has no column {', '.join(missing)}"
                problems.append(Problem(str(path), 1, "-", what, "fetch the corpus again"))
                continue
            for cells in reader:
                if None in cells or None in cells.values():
                    what = f"line has not the {len(reader.fieldnames)} cells of the header"
                    answer = cells.get("answerid") or "-"
                    problems.append(Problem(str(path), reader.line_num, answer, what, "fetch the corpus again"))
                    continue
                intent = f"{cells['scenario']}_{cells['intent']}"
                rows.append(TsvRow(str(path), reader.line_num, {"text": cells["answer_from_anno"], "intent": intent}))
    if problems:
        raise DataError(problems)
    if not rows:
        raise one_problem(paths[0].parent if paths else FOLD, "no sentences", "fetch the corpus again")
    return rows


def is_valid(text: str) -> bool:
    """Tell whether a sentence of the published training lists is held out, by its hash alone."""
    return int.from_bytes(hashlib.sha256(f"valid:{text}".encode()).digest()[:4], "big") < VALID_SHARE * 2**32


def read_sets(place: Path) -> dict[str, list[TsvRow]]:
    """Return the rows of every set: the pack's own, or the published test fold and a part of its training fold."""
    fold = fold_of(place)
    if fold is None:
        return {split: read_tsv(place / f"{part}.tsv", ("intent", "text")) for split, part in PACK_PARTS.items()}
    train = read_csv(sorted((fold / "trainset").glob("*.csv")))
    return {
        "train": [row for row in train if not is_valid(row.cells["text"])],
        "valid": [row for row in train if is_valid(row.cells["text"])],
        "test": read_csv(sorted((fold / "testset" / "csv").glob("*.csv"))),
    }


def sentence_pools(sets: dict[str, list[TsvRow]]) -> tuple[dict[str, list[tuple[str, str]]], int]:
    """Return `{split: [(sentence, intent)]}` in which no sentence comes twice, and the number of rows passed over.

    A sentence of the test set is in no other, one of the validation set not in training. Rows without words, or that
    could be said in several ways, are passed over. Raises DataError naming rows without an intent.
    """
    pools: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    num_rows, problems = 0, []
    for split in reversed(SPLITS):
        for row in sets[split]:
            num_rows += 1
            intent = "_".join(row.cells["intent"].split())
            if not intent:
                problems.append(Problem(row.file, row.line, "-", "no intent", "fill it in, or remove the line"))
            try:
                words = spoken_words(row.cells["text"])
            except ValueError:
                continue
            if words and words not in seen:
                seen.add(words)
                pools[split].append((words, intent))
    if problems:
        raise DataError(problems)
    return pools, num_rows - len(seen)


def find_unlabelled(given: Path | None) -> Path:
    """Return the given file of sentences, a line each, or one in a usual place; raises DataError where it is not."""
    for place in [given] if given else [folder / UNLABELLED.name for folder in usual_places((str(UNLABELLED.parent),))]:
        if place.is_file():
            return place
    what = "is not there" if given else "is in no usual place"
    raise one_problem(given or UNLABELLED, what, "give a file of sentences, a line each: --unlabelled_text FILE")


def unlabelled_sentences(path: Path, pools: dict[str, list[tuple[str, str]]], count: int, seed: int) -> list[str]:
    """Return `count` sentences (all where there are fewer) of a file, drawn at random; none of them is in a set, or comes twice."""
    known = {words for pool in pools.values() for words, _ in pool}
    found: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            words = spoken_words(line)
        except ValueError:
            continue
        if words and words not in known:
            found[words] = None
    sentences = list(found)
    return [sentences[i] for i in keyed_rng(seed, "unlabelled").permutation(len(sentences))[:count]]


def draw(pool: Sequence[tuple[str, str]], count: int, seed: int, split: str) -> list[tuple[str, str]]:
    """Return `count` sentences (all where there are fewer), drawn at random after one of each intent."""
    drawn = [pool[i] for i in keyed_rng(seed, split).permutation(len(pool))]
    first: dict[str, tuple[str, str]] = {}
    for sentence in drawn:
        first.setdefault(sentence[1], sentence)
    chosen = set(first.values())
    return [*first.values(), *(sentence for sentence in drawn if sentence not in chosen)][:count]
