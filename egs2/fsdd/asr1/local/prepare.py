"""Find or download the Free Spoken Digit Dataset, join digits to strings and write data/{train,valid,test}."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from strings import recordings_sha256, write_lists
from synthetic import make_corpus

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.download import DownloadError, RemoteFile, download, unpack
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.join import join_tsv
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, one_problem

COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
# GitHub packs the archive anew on request, so not its bytes but those of the 3000 recordings are checked.
ARCHIVE = RemoteFile(
    urls=(f"https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/{COMMIT}",),
    name=f"free-spoken-digit-dataset-{COMMIT}.tar.gz",
)
RECORDINGS_SHA256 = "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"

SIZES = {"train": 3000, "valid": 200, "test": 300, "test_lucas": 300}
TINY_SIZES = {"train": 48, "valid": 12, "test": 12, "test_lucas": 12}
PACK_STRINGS = {"train": "strings_train.tsv", "valid": "strings_dev.tsv", "test": "strings_test.tsv"}


def is_pack(corpus: Path) -> bool:
    """Tell whether `corpus` is the TSV pack, with its lists of strings."""
    return (corpus / "all.tsv").is_file() and all((corpus / name).is_file() for name in PACK_STRINGS.values())


def is_public(corpus: Path) -> bool:
    """Tell whether `corpus` is laid out as the public repository."""
    return (corpus / "recordings").is_dir()


def find_corpus(given: Path | None, downloads: Path) -> Path:
    """Return the corpus directory: the given one, one that lies in a usual place, or a downloaded one."""
    unpacked = downloads / "fsdd"
    content = unpacked / f"free-spoken-digit-dataset-{COMMIT}"
    places = [given] if given is not None else [*usual_places(["fsdd", "free-spoken-digit-dataset"]), content]
    for place in places:
        if is_pack(place) or is_public(place):
            return place
    if given is not None:
        remedy = (
            "give the clone of the public repository (with recordings/), or the TSV pack (with all.tsv, strings_*.tsv)"
        )
        raise one_problem(given, "is not the Free Spoken Digit Dataset", remedy)
    archive = download(ARCHIVE, downloads)
    unpack(archive, unpacked, max_bytes=200 * 10**6, max_files=10_000)
    found = recordings_sha256(content / "recordings")
    if found != RECORDINGS_SHA256:
        shutil.rmtree(unpacked)
        archive.unlink()
        what = f"recordings have SHA-256 {found} instead of {RECORDINGS_SHA256}: removed"
        raise DownloadError(f"{archive}: {what}: run again, or clone commit {COMMIT} yourself")
    return content


def report(data: DataDir) -> None:
    """Print how much speech a data directory holds."""
    seconds = durations(data)
    speakers = sorted(set(data.tables["utt2spk"].values()))
    hours = sum(seconds.values()) / 3600
    print(f"{data.path}: {len(seconds)} strings, {hours:.2f} h, speakers {' '.join(speakers)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="clone of the public repository, or the folder of the TSV pack")
    for name, size in SIZES.items():
        parser.add_argument(f"--num_{name}", type=int, help=f"{name} strings (public layout only; default: {size})")
    parser.add_argument(
        "--seed", type=int, default=1, help="for the strings (public layout only; default: %(default)s)"
    )
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where audio goes (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="parallel processes (default: %(default)s)")
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    defaults = TINY_SIZES if args.synthetic == "true" else SIZES
    given = {name: getattr(args, f"num_{name}") for name in SIZES}
    sizes = {name: defaults[name] if given[name] is None else given[name] for name in SIZES}
    if min(sizes.values()) < 1 or args.nj < 1:
        parser.error("the numbers of strings and --nj must be at least 1")
    try:
        if args.synthetic == "true":
            corpus = make_corpus(args.downloads / "synthetic")
        else:
            corpus = find_corpus(args.corpus, args.downloads)
        print(f"Free Spoken Digit Dataset: {corpus}")
        if is_pack(corpus):
            source, strings = corpus / "all.tsv", {name: corpus / file for name, file in PACK_STRINGS.items()}
        else:
            source, strings = write_lists(corpus / "recordings", args.downloads / "lists", sizes, args.seed)
        for name, path in strings.items():
            report(join_tsv(path, [source], args.data, name, args.downloads / "strings" / name, nj=args.nj))
    except DownloadError as error:
        sys.exit(f"{error}\nor name the folder of the corpus: --corpus DIR")
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
