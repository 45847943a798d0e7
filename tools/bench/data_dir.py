"""Time and memory of `data_dir validate`, of `data_dir fix` and of the start of a training, on made-up metadata of many utterances.

    python tools/bench/data_dir.py [--num 10000000] [--num_fix 1000000] [--folder /tmp]

Each run is a process of its own. Validation must not need more memory for ten times the utterances. `fix` gets the same tables
with their lines in another order. The training then reads two of them and two files of lengths by ESPnet2's own classes, and
makes batches. The tables of 10 million utterances take 2 GB below --folder, removed at the end; `fix` keeps
a copy of the old ones and sorts on disk, so it needs three times the size of its tables; the training needs 1 GB of memory for a
million utterances.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import gcd
from pathlib import Path

from timing import FRUGAL, again, machine, peak_growth, table

from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.repair import fix_data_dir

UTTS_PER_SPEAKER = 250
UTTS_PER_ARCHIVE = 10_000


def write_dir(path: Path, num: int, shuffled: bool) -> None:
    """Write wav.scp, text, utt2spk, spk2utt and utt2dur of `num` utterances of 250 each, and empty archives they point into."""
    path.mkdir()
    (path / "data").mkdir()
    for part in range(0, num, UTTS_PER_ARCHIVE):
        (path / "data" / f"part.{part // UTTS_PER_ARCHIVE}.ark").touch()
    # A walk through all utterances, in steps without a common factor.
    step = next(s for s in range(num // 3 + 1, 2 * num + 2) if gcd(s, num) == 1) if shuffled else 1
    tables = {
        "wav.scp": lambda n: f"{path}/data/part.{n // UTTS_PER_ARCHIVE}.ark:{n % UTTS_PER_ARCHIVE * 160000 + 24}",
        "text": lambda n: f"these are the {n} words of number {n * 7919 % 1000}",
        "utt2spk": _speaker,
        "utt2dur": lambda n: f"{1 + n % 1500 / 100:.2f}",
    }
    for name, value in tables.items():
        write(path / name, (f"{_utt(n)} {value(n)}\n" for n in (i * step % num for i in range(num))))
    first = range(0, num, UTTS_PER_SPEAKER)
    write(
        path / "spk2utt",
        (
            f"{_speaker(n)} {' '.join(_utt(m) for m in range(n, min(num, n + UTTS_PER_SPEAKER)))}\n"
            for n in (reversed(first) if shuffled else first)
        ),
    )


def write(file: Path, lines: Iterable[str]) -> None:
    """Write lines, many at a time."""
    lines = iter(lines)
    with file.open("w") as stream:
        while some := "".join(islice(lines, 10_000)):
            stream.write(some)


def _utt(n: int) -> str:
    return f"{_speaker(n)}-{n:08d}"


def _speaker(n: int) -> str:
    return f"s{n // UTTS_PER_SPEAKER:06d}"


def validate(path: Path) -> None:
    """Validate a directory without problems, looking for its archives."""
    if problems := check_data_dir(path):
        sys.exit(f"{len(problems)} problems, the first: {problems[0]}")


def write_shapes(path: Path, num: int) -> None:
    """Write the files of lengths that the statistics stage writes, of speech and of its words in 1000 pieces."""
    write(path / "speech_shape", (f"{_utt(n)} {16000 + n % 1500 * 160}\n" for n in range(num)))
    write(path / "text_shape", (f"{_utt(n)} {4 + n % 60},1000\n" for n in range(num)))


def start_training() -> Callable[[Path], None]:
    """What reads them. To import it takes time of its own, see start_up.py."""
    from espnet2.samplers.build_batch_sampler import build_batch_sampler
    from espnet2.train.dataset import ESPnetDataset

    def start(path: Path) -> None:
        dataset = ESPnetDataset([(str(path / "wav.scp"), "speech", "kaldi_ark"), (str(path / "text"), "text", "text")])
        shapes = [str(path / "speech_shape"), str(path / "text_shape")]
        batches = build_batch_sampler("numel", 1, 32_000_000, shapes)
        if sum(map(len, batches)) != sum(1 for _ in dataset):
            sys.exit(f"{path}: the batches do not hold all utterances")

    return start


def measured(case: Callable[[], object]) -> dict[str, float]:
    """Seconds, seconds of this process and its children on a processor, MiB by which this process grows, MiB of a child."""
    start, busy = time.perf_counter(), sum(os.times()[:4])
    grown = peak_growth(case)
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "wall": time.perf_counter() - start,
        "cpu": max(0.01, sum(os.times()[:4]) - busy),
        "peak": grown,
        "child": child,
    }


def rows(args: argparse.Namespace, folder: Path) -> Iterator[list[str]]:
    """Write directories, measure, and remove them again."""
    for num in (args.num // 10, args.num):
        path = folder / f"dir{num}"
        write_dir(path, num, shuffled=False)
        yield _row("validate", num, again("--validate", str(path), settings=FRUGAL))
        shutil.rmtree(path)
    for num in (args.num_fix // 10, args.num_fix):
        path = folder / f"shuffled{num}"
        write_dir(path, num, shuffled=True)
        yield _row("fix, lines in another order", num, again("--fix", str(path), settings=FRUGAL))
        write_shapes(path, num)
        yield _row("start of a training", num, again("--start", str(path), settings=FRUGAL))
        shutil.rmtree(path)


def _row(what: str, num: int, run: dict[str, float]) -> list[str]:
    seconds = [f"{run['wall']:.1f}", f"{num / run['wall']:,.0f}", f"{run['cpu']:.1f}", f"{num / run['cpu']:,.0f}"]
    return [what, f"{num:,}", *seconds, f"{run['peak']:.0f}", f"{run['child']:.0f}" if run["child"] else "-"]


def start_up(*words: str) -> float:
    """Seconds that a command takes to say how it is used, the best of five."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", *words, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=1_000_000, help="utterances to validate, and a tenth of them")
    parser.add_argument(
        "--num_fix", type=int, default=200_000, help="utterances to fix and to train on, and a tenth of them"
    )
    parser.add_argument("--folder", help="where the made-up directories go")
    parser.add_argument("--validate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fix", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.validate:
        print(json.dumps(measured(lambda: validate(args.validate))))
        return
    if args.fix:
        print(json.dumps(measured(lambda: fix_data_dir(args.fix))))
        return
    if args.start:
        start = start_training()
        print(json.dumps(measured(lambda: start(args.start)) | {"child": 0}))  # no sort, but what the imports ran
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        measurements = list(rows(args, Path(folder)))
    header = ["", "utterances", "s", "utts/s", "CPU s", "utts/CPU s", "grows by MiB", "sort MiB"]
    print(f"{machine()}; wav.scp (archives that are there), text, utt2spk, spk2utt, utt2dur\n")
    print(table(header, measurements))
    print(f"\nstart-up: {start_up('espnet2_kd.bin.data_dir'):.2f} s")


if __name__ == "__main__":
    main()
