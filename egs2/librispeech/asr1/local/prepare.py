"""Find or download LibriSpeech and write its training, validation and test sets as data directories."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from librilight import write_unlabelled
from synthetic import make_corpus, make_unlabelled

from espnet2_kd.data.download import DownloadError, RemoteFile, download, unpack
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.importer import Utterance, write_sets
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.tsv import TsvRow

NAME = "LibriSpeech"
MIRRORS = (
    "https://www.openslr.org/resources/12/",
    "https://openslr.elda.org/resources/12/",
    "https://openslr.magicdatatech.com/resources/12/",
)
# SHA-256 of the archives, as torchaudio.datasets.LIBRISPEECH checks them.
SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
MAX_UNPACKED_BYTES = 40 * 10**9  # the largest part, train-other-500, has 31 GB of FLAC
MAX_FILES = 200_000

SUBSETS = {"960": ("train-clean-100", "train-clean-360", "train-other-500"), "clean_100": ("train-clean-100",)}
EVALUATION = {"dev": ("dev-clean", "dev-other"), "test_clean": ("test-clean",), "test_other": ("test-other",)}


def parts_of(subset: str) -> dict[str, tuple[str, ...]]:
    """Return the parts of LibriSpeech that make up every set."""
    return {f"train_{subset}": SUBSETS[subset], **EVALUATION}


def part_folder(corpus: Path, part: str) -> Path | None:
    """Return the folder of a part in `corpus`, which holds the parts or `LibriSpeech/`; None where it is not there."""
    for folder in (corpus / part, corpus / NAME / part):
        if folder.is_dir():
            return folder
    return None


def find_parts(given: Path | None, downloads: Path, parts: list[str]) -> dict[str, Path]:
    """Return the folder of every part: in the given corpus, in a usual place, or downloaded; one place may hold some."""
    places = [given] if given else [*usual_places([NAME, "librispeech"]), downloads]
    found: dict[str, Path] = {}
    for part in parts:
        folders = [folder for place in places if (folder := part_folder(place, part)) is not None]
        if folders:
            found[part] = folders[0]
    missing = [part for part in parts if part not in found]
    if missing and given:
        remedy = f"give the folder that holds {NAME}/, or leave --corpus out to download"
        raise one_problem(given, f"holds no {', '.join(missing)}", remedy)
    for part in missing:
        archive = RemoteFile(tuple(f"{mirror}{part}.tar.gz" for mirror in MIRRORS), f"{part}.tar.gz", SHA256[part])
        content = downloads / "unpacked" / part
        if not content.exists():
            unpack(download(archive, downloads), content, MAX_UNPACKED_BYTES, MAX_FILES)
        folder = part_folder(content, part)
        if folder is None:
            raise DownloadError(f"{content}: holds no {NAME}/{part}: remove it and {downloads / archive.name}")
        found[part] = folder
    return found


def read_part(folder: Path, name: str, problems: list[Problem]) -> list[Utterance]:
    """Read `<reader>/<chapter>/<reader>-<chapter>.trans.txt` and the FLAC files beside it; adds what is wrong."""
    utterances = []
    transcripts = sorted(folder.glob("*/*/*.trans.txt"))
    if not transcripts:
        problems.append(Problem(str(folder), 0, "-", "no */*/*.trans.txt in it", "unpack the archive again"))
    for path in transcripts:
        left = {audio.stem for audio in path.parent.glob("*.flac")}
        for line, content in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            utt, _, text = content.partition(" ")
            row = TsvRow(str(path), line, {"utt_id": utt})
            if not text.strip():
                problems.append(Problem(str(path), line, utt or "-", "no words", "unpack the archive again"))
            if utt not in left:
                problems.append(Problem(str(path), line, utt or "-", f"no {utt}.flac", "unpack the archive again"))
            left.discard(utt)
            speaker = path.parent.parent.name
            utterances.append(Utterance(row, name, utt, speaker, str(path.parent / f"{utt}.flac"), text.strip()))
        for utt in sorted(left):
            problems.append(Problem(str(path), 0, utt, "has audio and no transcript", "unpack the archive again"))
    return utterances


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="the folder that holds LibriSpeech/, or LibriSpeech/ itself")
    subset = os.environ.get("LIBRISPEECH_SUBSET", "960")
    parser.add_argument("--subset", choices=SUBSETS, default=subset, help="training hours (default: %(default)s)")
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where downloads go (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument(
        "--librilight", type=Path, help="folder of unpacked Libri-Light archives, for data/unlabelled (default: none)"
    )
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    if args.subset not in SUBSETS:  # from the environment
        parser.error(f"subset {args.subset!r}: one of {', '.join(SUBSETS)}")
    sets = parts_of(args.subset)
    try:
        corpus = args.corpus
        if args.synthetic == "true":
            corpus = make_corpus(args.downloads / "synthetic")
            args.librilight = make_unlabelled(args.downloads / "synthetic_librilight")
        folders = find_parts(corpus, args.downloads, [part for parts in sets.values() for part in parts])
        problems: list[Problem] = []
        utterances = [
            utterance
            for name, parts in sets.items()
            for part in parts
            for utterance in read_part(folders[part], name, problems)
        ]
        sets_written = write_sets(utterances, args.data, problems)
        if args.librilight:
            sets_written.append(write_unlabelled(args.librilight, args.data / "unlabelled"))
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
