"""Find or download AISHELL-1 and write data/{train,dev,test}, with text as characters without blanks."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

from synthetic import make_corpus

from espnet2_kd.data.download import DownloadError, RemoteFile, download, unpack
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.importer import Utterance, write_sets
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.progress import Progress
from espnet2_kd.data.tsv import TsvRow

NAME = "data_aishell"
TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"
SETS = ("train", "dev", "test")
# The size is the one that Kaldi's recipe for this corpus checks, the MD5 the one of PaddleSpeech's.
ARCHIVE = RemoteFile(
    urls=(
        "https://www.openslr.org/resources/33/data_aishell.tgz",
        "https://openslr.elda.org/resources/33/data_aishell.tgz",
        "https://openslr.magicdatatech.com/resources/33/data_aishell.tgz",
    ),
    name="data_aishell.tgz",
    size=15_582_913_665,
    md5="2f494334227864a8a8fec932999db9d8",
)
MAX_UNPACKED_BYTES = 40 * 10**9
MAX_FILES = 200_000
# Of a speaker's archive, which has some 360 recordings and 50 MB.
MAX_SPEAKER_BYTES = 10**9
MAX_SPEAKER_FILES = 2000

_LETTERS_OR_DIGITS = re.compile("[0-9A-Za-z\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")


def corpus_folder(place: Path) -> Path | None:
    """Return `data_aishell/`, which `place` is or holds; None where it is not there."""
    for folder in (place, place / NAME):
        if (folder / TRANSCRIPT).is_file():
            return folder
    return None


def find_corpus(given: Path | None, downloads: Path) -> Path:
    """Return `data_aishell/`: the given one, one that lies in a usual place, or a downloaded one."""
    content = downloads / "aishell"
    places = [given] if given else [*usual_places([NAME, "aishell", "AISHELL-1"]), content]
    for place in places:
        if (folder := corpus_folder(place)) is not None:
            return folder
    if given:
        remedy = f"give the folder that holds {NAME}/, or leave --corpus out to download"
        raise one_problem(given, f"holds no {TRANSCRIPT}", remedy)
    unpack(download(ARCHIVE, downloads), content, MAX_UNPACKED_BYTES, MAX_FILES)
    folder = corpus_folder(content)
    if folder is None:
        raise DownloadError(f"{content}: holds no {NAME}/{TRANSCRIPT}: remove it and {downloads / ARCHIVE.name}")
    return folder


def unpack_speakers(wav: Path, speakers: Path) -> list[Path]:
    """Return the folders of `<set>/<speaker>/*.wav`: `wav`, and what archives of speakers in it were unpacked to.

    The corpus arrives with an archive for each speaker. They are unpacked below `speakers`, since a corpus may be read-only.
    """
    folders = [wav]
    packed = [path for path in sorted(wav.glob("*.tar.gz")) if not any(wav.glob(f"*/{path.name[: -len('.tar.gz')]}"))]
    if not packed:
        return folders
    with Progress("unpack speakers", len(packed)) as progress:
        for archive in packed:
            stat = archive.stat()
            # So that another corpus with the same speakers, or a mended archive, is not taken for this one.
            origin = f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}"
            folder = speakers / hashlib.sha256(origin.encode()).hexdigest()[:16]
            if not folder.exists():
                unpack(archive, folder, MAX_SPEAKER_BYTES, MAX_SPEAKER_FILES)
            folders.append(folder)
            progress.step()
    return folders


def read_transcripts(path: Path, problems: list[Problem]) -> dict[str, tuple[TsvRow, str]]:
    """Read lines of an id and words: id -> (its line, the words without blanks); adds what is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise one_problem(path, f"not UTF-8 at byte {error.start + 1}", "unpack the archive again") from error
    transcripts: dict[str, tuple[TsvRow, str]] = {}
    for line, content in enumerate(lines, 1):
        utt, *words = content.split() or ["-"]
        if not words:
            problems.append(Problem(str(path), line, utt, "no words", "unpack the archive again"))
        elif utt in transcripts:
            what = f"duplicate id, first in line {transcripts[utt][0].line}"
            problems.append(Problem(str(path), line, utt, what, "unpack the archive again"))
        else:
            transcripts[utt] = TsvRow(str(path), line, {"utt_id": utt}), "".join(words)
    return transcripts


def read_corpus(corpus: Path, speakers: Path, problems: list[Problem]) -> tuple[list[Utterance], int]:
    """Return the utterances of all sets and the number of recordings without a transcript; adds what is wrong.

    Raises:
        DataError: a set of which nothing is there.
    """
    folders = unpack_speakers(corpus / "wav", speakers)
    recordings = {name: sorted(path for f in folders for path in f.glob(f"{name}/*/*.wav")) for name in SETS}
    if missing := [name for name, paths in recordings.items() if not paths]:
        what = f"holds no recordings of {', '.join(missing)}, unpacked or in an archive of a speaker"
        raise one_problem(corpus / "wav", what, f"unpack {ARCHIVE.name} again")
    transcripts = read_transcripts(corpus / TRANSCRIPT, problems)
    utterances = []
    for name, paths in recordings.items():
        for path in paths:
            if path.stem in transcripts:
                row, text = transcripts[path.stem]
                utterances.append(Utterance(row, name, path.stem, path.parent.name, str(path), text))
    heard = {utterance.utt for utterance in utterances}
    for utt, (row, _) in transcripts.items():
        if utt not in heard:
            problems.append(Problem(row.file, row.line, utt, f"no {utt}.wav", "unpack the archive again"))
    return utterances, sum(map(len, recordings.values())) - len(utterances)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="the folder that holds data_aishell/, or data_aishell/ itself")
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
        print(f"AISHELL-1: {corpus}")
        problems: list[Problem] = []
        utterances, num_without = read_corpus(corpus, args.downloads / "speakers", problems)
        sets_written = write_sets(utterances, args.data, problems)
        print(f"{num_without} recordings without a transcript, left out")
        num_mixed = sum(bool(_LETTERS_OR_DIGITS.search(utterance.text)) for utterance in utterances)
        print(f"{num_mixed} transcripts with letters or digits, kept as they are")
        for written in sets_written:
            speakers = set(written.tables["utt2spk"].values())
            hours = sum(durations(written).values()) / 3600
            print(f"{written.path}: {len(written.utts)} utterances, {hours:.2f} h, {len(speakers)} speakers")
    except DownloadError as error:
        sys.exit(f"{error}\nor name the folder of the corpus: --corpus DIR")
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
