"""Find or download Fluent Speech Commands and write data/{train,valid,test}, with the slots action, object and location."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path, PurePosixPath

from synthetic import make_corpus

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.download import DownloadError, RemoteFile, download, unpack
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.ids import with_speaker_prefix
from espnet2_kd.data.importer import Utterance, unseen_labels, write_sets
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.progress import Progress
from espnet2_kd.data.tsv import TsvRow
from espnet2_kd.data.words import plain_words

NAME = "fluent_speech_commands_dataset"
SLOTS = ("action", "object", "location")
COLUMNS = ("path", "speakerId", "transcription", *SLOTS)
# Utterances of each set as published.
PUBLISHED = {"train": 23132, "valid": 3118, "test": 3793}
# Nobody publishes a checksum or the size in bytes: what is unpacked must have the published number of utterances.
ARCHIVE = RemoteFile(
    urls=(
        "https://huggingface.co/datasets/leo19941227/fluent_speech_commands/resolve/main/fluent.tar.gz",
        "http://fluent.ai:2052/jf8398hf30f0381738rucj3828chfdnchs.tar.gz",
        "http://140.112.21.28:9000/fluent.tar.gz",
    ),
    name="fluent.tar.gz",
)
MAX_UNPACKED_BYTES = 6 * 10**9
MAX_FILES = 100_000
BY_HAND = (
    "Its owner gives it at https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/,"
    " and there is a copy at https://www.kaggle.com/datasets/tommyngx/fluent-speech-corpus (with an account)."
    f"\nUnpack it and name the folder that holds {NAME}/: --corpus DIR"
)


def csv_path(corpus: Path, name: str) -> Path:
    """Return the table of a set."""
    return corpus / "data" / f"{name}_data.csv"


def corpus_folder(place: Path) -> Path | None:
    """Return `fluent_speech_commands_dataset/`, which `place` is or holds; None where it is not there."""
    for folder in (place, place / NAME):
        if all(csv_path(folder, name).is_file() for name in PUBLISHED):
            return folder
    return None


def find_corpus(given: Path | None, downloads: Path) -> Path:
    """Return `fluent_speech_commands_dataset/`: the given one, one in a usual place, or a downloaded one."""
    content = downloads / "fsc"
    places = [given] if given else [*usual_places([NAME, "fsc", "fluent_speech_commands"]), content]
    for place in places:
        if (folder := corpus_folder(place)) is not None:
            return folder
    if given:
        remedy = f"give the folder that holds {NAME}/, or leave --corpus out to download"
        raise one_problem(given, "holds no data/train_data.csv, valid_data.csv and test_data.csv", remedy)
    archive = download(ARCHIVE, downloads)
    unchecked = unpack(archive, downloads / "fsc.unchecked", MAX_UNPACKED_BYTES, MAX_FILES)
    folder = corpus_folder(unchecked)
    if folder is None:
        raise DownloadError(f"{archive}: holds no {NAME}/data/train_data.csv: remove it and {unchecked}")
    counts = {name: len(read_csv(csv_path(folder, name))) for name in PUBLISHED}
    if counts != PUBLISHED:
        raise DownloadError(f"{archive}: holds {counts} utterances, not {PUBLISHED}: remove it and {unchecked}")
    os.replace(unchecked, content)
    return content / folder.relative_to(unchecked)


def read_csv(path: Path) -> list[TsvRow]:
    """Read a table with quoting, as spreadsheets write it; raises DataError with every line that cannot be read."""
    problems, rows = [], []
    remedy = "unpack the archive again"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            columns = next(reader, [])
            if missing := [column for column in COLUMNS if column not in columns]:
                what = f"header has no column {', '.join(missing)} (it has {', '.join(columns)})"
                raise one_problem(path, what, remedy, line=1)
            for cells in reader:
                row = dict(zip(columns, (cell.strip() for cell in cells)))
                if len(cells) != len(columns):
                    what = f"{len(cells)} cells, the header has {len(columns)}"
                    problems.append(Problem(str(path), reader.line_num, cells[0] if cells else "-", what, remedy))
                else:
                    row["utt_id"] = PurePosixPath(row["path"]).stem
                    rows.append(TsvRow(str(path), reader.line_num, row))
    except UnicodeDecodeError as error:
        raise one_problem(path, f"not UTF-8 at byte {error.start + 1}", remedy) from error
    except csv.Error as error:
        raise one_problem(path, f"not a table of comma-separated values ({error})", remedy, reader.line_num) from error
    if not rows and not problems:
        problems.append(Problem(str(path), 0, "-", "no lines below the header", remedy))
    if problems:
        raise DataError(problems)
    return rows


def read_corpus(corpus: Path, problems: list[Problem]) -> list[Utterance]:
    """Return the utterances of all sets; adds what is wrong, speakers in two sets and unseen labels included."""
    tables = {name: read_csv(csv_path(corpus, name)) for name in PUBLISHED}
    utterances: list[Utterance] = []
    with Progress("look for recordings", sum(map(len, tables.values()))) as progress:
        for name, rows in tables.items():
            for row in rows:
                utterances.append(to_utterance(row, name, corpus, problems))
                progress.step()
    first: dict[str, Utterance] = {}
    for utterance in utterances:
        other = first.setdefault(utterance.spk, utterance)
        if other.set != utterance.set:
            what = f"speaker {utterance.spk} is also in {other.set} ({other.row.file}:{other.row.line})"
            first[utterance.spk] = utterance
            problems.append(problem(utterance.row, what, "the sets must not share speakers: unpack the archive again"))
    problems += unseen_labels(utterances)
    return utterances


def to_utterance(row: TsvRow, name: str, corpus: Path, problems: list[Problem]) -> Utterance:
    """Read one line; adds what is wrong with it."""
    cells = row.cells
    inside = PurePosixPath(cells["path"])
    path = corpus / inside
    if inside.is_absolute() or ".." in inside.parts:
        problems.append(problem(row, f"path {cells['path']!r} leads outside the corpus", "do not use this copy"))
    elif not os.path.isfile(path):
        problems.append(problem(row, f"file not found: {path}", "unpack the archive again"))
    text = plain_words(cells["transcription"])
    if not text:
        problems.append(problem(row, "no words", "write the words said"))
    problems += [
        problem(row, f"no {slot}", "fill it in, none where there is none") for slot in SLOTS if not cells[slot]
    ]
    utt = with_speaker_prefix(cells["utt_id"], cells["speakerId"])
    label = {slot: cells[slot] or "none" for slot in SLOTS}
    return Utterance(row, name, utt, cells["speakerId"], os.path.normpath(path), text, label)


def problem(row: TsvRow, what: str, remedy: str) -> Problem:
    """Return what is wrong with a line."""
    return Problem(row.file, row.line, row.cells["utt_id"] or "-", what, remedy)


def summary(data: DataDir) -> str:
    """Describe a written set."""
    hours = sum(durations(data).values()) / 3600
    speakers, intents = set(data.tables["utt2spk"].values()), set(data.tables["label"].values())
    return f"{data.path}: {len(data.utts)} utterances, {hours:.2f} h, {len(speakers)} speakers, {len(intents)} intents"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help=f"the folder that holds {NAME}/, or {NAME}/ itself")
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where downloads go (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    try:
        given = make_corpus(args.downloads / "synthetic") if args.synthetic == "true" else args.corpus
        corpus = find_corpus(given, args.downloads)
        print(f"Fluent Speech Commands: {corpus}")
        problems: list[Problem] = []
        written = write_sets(read_corpus(corpus, problems), args.data, problems)
        print("\n".join(map(summary, written)))
        counts = {data.path.name: len(data.utts) for data in written}
        if args.synthetic == "false" and counts != PUBLISHED:
            print(f"warning: not the published numbers of utterances, {PUBLISHED}: results cannot be compared")
    except DownloadError as error:
        sys.exit(f"{error}\n{BY_HAND}")
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
