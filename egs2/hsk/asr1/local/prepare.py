"""Find the pack of Mandarin words, join words to strings and write data/{train,valid,test}."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from synthetic import make_corpus

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.join import COLUMNS, join_tsv
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.table import replacing
from espnet2_kd.data.tsv import TsvRow, read_tsv

NAME = "mandarin_hsk"
WORDS = "all.tsv"
# The sets, and what the pack calls them.
PARTS = {"train": "train", "valid": "dev", "test": "test"}
STRINGS = {name: f"strings_{part}.tsv" for name, part in PARTS.items()}


def find_corpus(given: Path | None) -> Path:
    """Return the given folder, or one in a usual place; raises DataError where the pack is not."""
    places = [given] if given is not None else usual_places([NAME])
    missing: list[str] = []
    for place in places:
        missing = [file for file in (WORDS, *STRINGS.values()) if not (place / file).is_file()]
        if not missing:
            return place
    if not places:
        raise one_problem(
            NAME, "is in no usual place", "put it below the folder named by KD_DATA, or give --corpus DIR"
        )
    raise one_problem(places[-1], f"lacks {', '.join(missing)}", "give the folder of the TSV pack: --corpus DIR")


def check_pack(corpus: Path) -> None:
    """Check that no word is in two sets and that strings hold what they say; raises DataError with every faulty line."""
    problems: list[Problem] = []
    words: dict[str, TsvRow] = {}
    spoken: dict[str, TsvRow] = {}
    for row in read_tsv(corpus / WORDS, ("utt_id", "split", "text", "path")):
        utt, text = row.cells["utt_id"], row.cells["text"]
        if (first := words.setdefault(utt, row)) is not row:
            what = f"duplicate utt_id, lines {first.line} and {row.line}"
            problems.append(Problem(row.file, row.line, utt, what, "give every recording its own id"))
        first = spoken.setdefault(text, row)
        if first.cells["split"] != row.cells["split"]:
            what = f"{text} is in {row.cells['split']} and, line {first.line}, in {first.cells['split']}"
            problems.append(Problem(row.file, row.line, utt, what, "put a word into one split only"))
    for name, file in STRINGS.items():
        for row in read_tsv(corpus / file, COLUMNS):
            problems += _string_problems(row, PARTS[name], words)
    if problems:
        raise DataError(problems)


def _string_problems(row: TsvRow, part: str, words: dict[str, TsvRow]) -> list[Problem]:
    utts, problems = row.cells["utt_ids"].split(), []

    def add(what: str, remedy: str) -> None:
        problems.append(Problem(row.file, row.line, row.cells["string_id"], what, remedy))

    if unknown := [utt for utt in utts if utt not in words]:
        add(f"recordings not in {WORDS}: {' '.join(unknown)}", "fetch the pack again")
        return problems
    if foreign := [f"{utt} ({words[utt].cells['split']})" for utt in utts if words[utt].cells["split"] != part]:
        add(f"recordings of another split than {part}: {', '.join(foreign)}", "join recordings of one split only")
    joined = "".join(words[utt].cells["text"] for utt in utts)
    if joined != row.cells["text"]:
        add(f"text is {row.cells['text']}, but its recordings say {joined}", "correct text or utt_ids")
    return problems


def with_words(corpus: Path, lists: Path) -> Path:
    """Write the list of training strings and, as strings of one, of the training words; return its path."""
    rows = [[row.cells[name] for name in COLUMNS] for row in read_tsv(corpus / STRINGS["train"], COLUMNS)]
    for row in read_tsv(corpus / WORDS, ("utt_id", "speaker", "split", "text")):
        utt, speaker, split, text = (row.cells[name] for name in ("utt_id", "speaker", "split", "text"))
        if split == PARTS["train"]:
            rows.append([f"word_{utt}", speaker, text, utt, "0"])
    path = lists / "train_and_words.tsv"
    lists.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.writelines("\t".join(row) + "\n" for row in [COLUMNS, *rows])
    return path


def report(data: DataDir) -> None:
    """Print how much speech a data directory holds."""
    seconds = durations(data)
    texts = data.tables["text"].values()
    hours, num_chars = sum(seconds.values()) / 3600, sum(map(len, texts))
    print(
        f"{data.path}: {len(seconds)} utterances, {hours:.2f} h, {num_chars} characters, {len(set().union(*texts))} different"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help=f"the folder of the TSV pack {NAME}")
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where audio goes (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument(
        "--words",
        choices=("true", "false"),
        default="true",
        help="train on the words by themselves too: from strings alone, some trainings never begin to listen (default: %(default)s)",
    )
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="parallel processes (default: %(default)s)")
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    if args.nj < 1:
        parser.error("--nj must be at least 1")
    try:
        given = make_corpus(args.downloads / "synthetic") if args.synthetic == "true" else args.corpus
        corpus = find_corpus(given)
        print(f"{NAME}: {corpus}")
        check_pack(corpus)
        for name, file in STRINGS.items():
            joined = args.downloads / "strings" / name
            listed = with_words(corpus, joined.parent) if name == "train" and args.words == "true" else corpus / file
            report(join_tsv(listed, [corpus / WORDS], args.data, name, joined, nj=args.nj))
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
