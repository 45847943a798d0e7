"""Find or download speechocean762 and write data/train, data/valid and data/test, speakers disjoint."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from synthetic import make_corpus

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.download import DownloadError, RemoteFile, download, unpack
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.importer import ImportOptions, to_utterance, write_sets
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.spoken import SpokenUtterance, keyed_rng, speak_corpus
from espnet2_kd.data.table import read_table
from espnet2_kd.data.tsv import TsvRow, read_tsv

NAME = "speechocean762"
COLUMNS = ("utt_id", "speaker", "text", "path")
# OpenSLR publishes no checksum; the size is the one that Kaldi's recipe for this corpus checks.
ARCHIVE = RemoteFile(
    urls=(
        "https://www.openslr.org/resources/101/speechocean762.tar.gz",
        "https://openslr.elda.org/resources/101/speechocean762.tar.gz",
        "https://openslr.magicdatatech.com/resources/101/speechocean762.tar.gz",
    ),
    name="speechocean762.tar.gz",
    size=520_810_923,
)

# The corpus labels speakers with their age; half of them are children.
ADULT_AGE = 16
NUM_VALID_SPEAKERS = 12
TINY_NUM_VALID_SPEAKERS = 2
SPOKEN_SEED = 1

PARTS = {"train": "train", "valid": "dev", "test": "test"}


def normalise(text: str) -> str:
    """Return lower-case words of letters and apostrophes; raises ValueError where that would lose a spoken word."""
    text = text.lower().replace("\u2019", "'")
    if found := re.search(r"[^\W_a-z]", text):
        raise ValueError(f"{found.group()!r} is neither an English letter nor punctuation")
    words = (word.strip("'") for word in re.sub(r"[^a-z' ]", " ", text).split())
    return " ".join(word for word in words if word)


def read_openslr(corpus: Path, part: str) -> list[TsvRow]:
    """Read `train` or `test` of the published layout: Kaldi tables, audio paths relative to the corpus."""
    tables = {name: read_table(corpus / part / name) for name in ("wav.scp", "text", "utt2spk")}
    keys = [set(table) for table in tables.values()]
    if odd := sorted(set.union(*keys) - set.intersection(*keys)):
        what = "is not in all of wav.scp, text and utt2spk"
        raise DataError([Problem(str(corpus / part), 0, utt, what, "fetch the corpus again") for utt in odd])
    return [
        TsvRow(
            str(corpus / part / "text"),
            line,
            {
                "utt_id": utt,
                "speaker": tables["utt2spk"][utt],
                "text": text,
                "path": str((corpus / tables["wav.scp"][utt]).resolve()),
            },
        )
        for line, (utt, text) in enumerate(tables["text"].items(), 1)
    ]


def valid_speakers(ages: dict[str, str], count: int) -> set[str]:
    """Return the training speakers held out for validation: half of them children, drawn by the hash of their id."""
    chosen: set[str] = set()
    for adult in (False, True):
        speakers = by_hash((speaker for speaker, age in ages.items() if (int(age) >= ADULT_AGE) == adult), "valid")
        chosen.update(speakers[: count // 2])
    return chosen


def split_openslr(corpus: Path, num_valid_speakers: int) -> dict[str, list[TsvRow]]:
    """Return the official test set, and the official training set with some speakers held out for validation."""
    train = read_openslr(corpus, "train")
    held_out = valid_speakers(read_table(corpus / "train" / "spk2age"), num_valid_speakers)
    return {
        "train": [row for row in train if row.cells["speaker"] not in held_out],
        "valid": [row for row in train if row.cells["speaker"] in held_out],
        "test": read_openslr(corpus, "test"),
    }


def is_openslr(corpus: Path) -> bool:
    """Tell whether `corpus` has the layout of OpenSLR resource 101."""
    return (corpus / "WAVE").is_dir() and (corpus / "train" / "wav.scp").is_file()


def find_corpus(given: Path | None, downloads: Path) -> Path:
    """Return the corpus directory: the given one, one that lies in a usual place, or a downloaded one."""
    unpacked = downloads / "corpus"
    places = (
        [given, given / "speechocean762"] if given else [*usual_places(["speechocean762", "so762"]), unpacked / NAME]
    )
    for place in places:
        if is_openslr(place) or (place / "train.tsv").is_file():
            return place
    if given is not None:
        remedy = "give the folder that holds WAVE/ and train/wav.scp (OpenSLR resource 101), or train.tsv of a TSV pack"
        raise one_problem(given, "is not speechocean762", remedy)
    unpack(download(ARCHIVE, downloads), unpacked, max_bytes=2 * 10**9, max_files=20_000)
    if not is_openslr(unpacked / NAME):
        raise DownloadError(f"{unpacked}: holds no {NAME}/train/wav.scp: remove it and {downloads / ARCHIVE.name}")
    return unpacked / NAME


def find_pack(name: str, corpus: Path) -> Path:
    """Return the folder of another TSV pack, which lies beside the corpus or in a usual place."""
    for folder in (corpus.resolve().parent / name, *usual_places([name])):
        if (folder / "all.tsv").is_file():
            return folder
    raise one_problem(name, "pack not found", f"put its folder beside {corpus}, or below the folder named by KD_DATA")


def by_hash(speakers: Iterable[str], purpose: str) -> list[str]:
    """Return the speakers in an order that depends on their ids alone."""
    return sorted(speakers, key=lambda speaker: hashlib.sha256(f"{purpose}:{speaker}".encode()).digest())


def hide_transcripts(sets: dict[str, list[TsvRow]], share: float) -> None:
    """Move this share of the training speakers, drawn by the hash of their id, to the set without transcripts."""
    speakers = by_hash({row.cells["speaker"] for row in sets["train"]}, "hidden")
    hidden = set(speakers[: round(share * len(speakers))])
    sets.setdefault("unlabelled", []).extend(row for row in sets["train"] if row.cells["speaker"] in hidden)
    sets["train"] = [row for row in sets["train"] if row.cells["speaker"] not in hidden]


def spoken_sentences(texts: list[Path], train: list[TsvRow], count: int, seed: int) -> list[str]:
    """Return sentences of text files, or of the training set, drawn at random; what cannot be normalised is passed over.

    They have 2 to 14 words, as the corpus has. A sentence comes again only when all have been drawn.
    """
    lines = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines()]
    usable = set()
    for line in lines or [row.cells["text"] for row in train]:
        try:
            sentence = normalise(line)
        except ValueError:
            continue
        if 2 <= len(sentence.split()) <= 14:
            usable.add(sentence)
    if not usable:
        raise one_problem(" ".join(map(str, texts)), "no line of 2 to 14 English words", "give one sentence per line")
    rng, pool, drawn = keyed_rng(seed, "sentences"), sorted(usable), []
    while len(drawn) < count:
        drawn += [pool[i] for i in rng.permutation(len(pool))]
    return drawn[:count]


def speak_more(sentences: list[str], folder: Path, seed: int) -> list[TsvRow]:
    """Return the sentences spoken by espeak-ng in many voices and rooms."""
    rng = keyed_rng(seed, "voices")
    utterances = [SpokenUtterance.draw(number, "train", text, "", rng, seed) for number, text in enumerate(sentences)]
    speak_corpus(folder, utterances, {}, seed, os.cpu_count() or 1)
    return read_tsv(folder / "corpus.tsv", COLUMNS)


def collect(
    corpus: Path,
    num_valid_speakers: int,
    arctic: bool = False,
    libri: bool = False,
    libri_unlabelled: bool = False,
    hidden: float = 0.0,
) -> dict[str, list[TsvRow]]:
    """Return the rows of every set: train, valid, test and, when asked for, test_arctic, test_libri and unlabelled."""
    if is_openslr(corpus):
        sets = split_openslr(corpus, num_valid_speakers)
    else:
        sets = {name: read_tsv(corpus / f"{part}.tsv", COLUMNS) for name, part in PARTS.items()}
    if arctic:
        pack = find_pack("arctic_kathleen", corpus)
        sets["train"] += read_tsv(pack / "train.tsv", COLUMNS)
        sets["test_arctic"] = read_tsv(pack / "test.tsv", COLUMNS)
    if libri:
        sets["test_libri"] = read_tsv(find_pack("libri_testother100", corpus) / "test.tsv", COLUMNS)
    if libri_unlabelled:
        columns = [column for column in COLUMNS if column != "text"]
        sets["unlabelled"] = read_tsv(find_pack("libri_unlabelled251", corpus) / "train.tsv", columns)
    if hidden:
        hide_transcripts(sets, hidden)
    return sets


def write_data_dirs(sets: dict[str, list[TsvRow]], data: Path) -> list[DataDir]:
    """Write every set with normalised text; raises DataError, before writing, with the problems of all lines."""
    problems: list[Problem] = []
    utterances = []
    for name, rows in sets.items():
        for row in rows:
            cells = row.cells
            if name == "unlabelled":
                cells = {**{key: value for key, value in cells.items() if key != "text"}, "split": name}
                utterance = to_utterance(TsvRow(row.file, row.line, cells), ImportOptions(), problems)
                utterances += [utterance] if utterance else []
                continue
            try:
                text = normalise(cells["text"])
                if not text:
                    raise ValueError("no words")
            except ValueError as error:
                text = cells["text"]
                remedy = "write the text as it is spoken, or remove the line"
                problems.append(Problem(row.file, row.line, cells["utt_id"], str(error), remedy))
            cells = {**cells, "text": text, "split": name}
            utterance = to_utterance(TsvRow(row.file, row.line, cells), ImportOptions(), problems)
            utterances += [utterance] if utterance else []
    return write_sets(utterances, data, problems)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="speechocean762 of OpenSLR, or the folder of a TSV pack")
    parser.add_argument(
        "--arctic", choices=("true", "false"), default="false", help="add the arctic_kathleen pack to train"
    )
    parser.add_argument(
        "--libri", choices=("true", "false"), default="false", help="add libri_testother100 as a test set"
    )
    parser.add_argument(
        "--libri_unlabelled",
        choices=("true", "false"),
        default="false",
        help="write data/unlabelled from libri_unlabelled251",
    )
    parser.add_argument(
        "--spoken", type=int, default=0, help="sentences spoken by espeak-ng in many voices that are added to train"
    )
    parser.add_argument(
        "--spoken_text", type=Path, nargs="+", default=[], help="where they come from, a line each (default: train)"
    )
    parser.add_argument(
        "--hidden", type=float, default=0.0, help="share of training speakers (0 to 1) that go to data/unlabelled"
    )
    held_out = f"training speakers held out (OpenSLR layout only; default: {NUM_VALID_SPEAKERS})"
    parser.add_argument("--num_valid_speakers", type=int, help=held_out)
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where a download goes (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    if args.num_valid_speakers is None:
        args.num_valid_speakers = TINY_NUM_VALID_SPEAKERS if args.synthetic == "true" else NUM_VALID_SPEAKERS
    if args.num_valid_speakers < 2 or args.num_valid_speakers % 2:
        parser.error("--num_valid_speakers must be even and at least 2: half of them are children")
    if args.spoken < 0:
        parser.error("--spoken must not be negative")
    if missing := [str(path) for path in args.spoken_text if not path.is_file()]:
        parser.error(f"--spoken_text {missing[0]}: no such file")
    if not 0.0 <= args.hidden < 1.0:
        parser.error("--hidden must be a share of the training speakers, 0 or more and less than 1")
    try:
        if args.synthetic == "true":
            corpus = make_corpus(args.downloads / "synthetic")
        else:
            corpus = find_corpus(args.corpus, args.downloads)
        print(f"speechocean762: {corpus}")
        asked = (args.arctic == "true", args.libri == "true", args.libri_unlabelled == "true", args.hidden)
        sets = collect(corpus, args.num_valid_speakers, *asked)
        if args.spoken:
            sentences = spoken_sentences(args.spoken_text, sets["train"], args.spoken, SPOKEN_SEED)
            sets["train"] += speak_more(sentences, args.downloads / "spoken", SPOKEN_SEED)
        for written in write_data_dirs(sets, args.data):
            speakers = set(written.tables["utt2spk"].values())
            hours = sum(durations(written).values()) / 3600
            print(f"{written.path}: {len(written.utts)} utterances, {hours:.2f} h, {len(speakers)} speakers")
    except DownloadError as error:
        sys.exit(f"{error}\nor name the folder of the corpus: --corpus DIR")
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
