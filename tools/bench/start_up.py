"""How long commands take to answer `--help`, which is what every job of every stage waits for first.

    python tools/bench/start_up.py [--rounds 3]

CPU seconds of the process and its children, which, unlike time on the clock, do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

from timing import ROOT, machine, refuse_if_red, table

STOCK = "espnet2.bin.asr_train"
PROGRAMS = (
    STOCK,
    "espnet2_kd.bin.asr_train",
    "espnet2_kd.bin.intent_train",
    "espnet2_kd.bin.data_dir",
    "espnet2_kd.bin.format_audio",
    "espnet2_kd.bin.score",
    "espnet2_kd.bin.stream",
)


def answer(program: str) -> Callable[[], float]:
    """A call that runs the program and gives its CPU seconds."""

    def call() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", program, "--help"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return call


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    refuse_if_red("test/tasks/test_quick_import.py")
    seconds: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    for turn in range(args.rounds + 1):
        for program in PROGRAMS:
            taken = answer(program)()
            if turn:  # the first round fills the caches of the file system
                seconds[program].append(taken)
    print(f"{machine()}; median of {args.rounds} rounds, after one that does not count\n")
    stock = statistics.median(seconds[STOCK])
    rows = []
    for program, values in seconds.items():
        median = statistics.median(values)
        rows.append([program, f"{median:.2f}", f"{median / stock:.3f}"])
    print(table(["command --help", "CPU s", f"of {STOCK}"], rows))


if __name__ == "__main__":
    main()
