"""Fuzz everything that reads files: no crash, no hang, no traceback, no unbounded memory, whatever is in them.

    python tools/fuzz/fuzz.py [--seconds 3600] [--seed 0] [TARGET ...]

Hypothesis changes good files, a target at a time, in a process of its own. A failure is shrunk and printed with its
traceback; the other targets go on. Status 1 if there was one. Failures are kept in .hypothesis and tried first next time.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import resource
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from harness import check  # noqa: E402
from targets import TARGETS  # noqa: E402

BATCH = 300  # examples
HANG_SECONDS = 60  # of the whole process without a finished example
MEMORY_BYTES = 2 << 30  # beyond what the process has when it begins


def fuzz(name: str, seconds: float, seed: int) -> None:
    """Fuzz one target; leaves the process with status 1 after a failure."""
    limit_memory()
    deadline = time.monotonic() + seconds
    num_examples = 0
    while time.monotonic() < deadline:
        try:
            num_examples += check(
                name, BATCH, seed, beat=lambda: faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            )
        except Exception:  # noqa: BLE001  (whatever a target raises is what is looked for)
            traceback.print_exc()
            sys.exit(1)
        seed += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{name}: {num_examples} examples", flush=True)


def limit_memory() -> None:
    """Let the address space grow by so much and no more, so that a bomb is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES,) * 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=3600, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the examples (default: %(default)s)")
    args = parser.parse_args()
    if unknown := set(args.targets) - TARGETS.keys():
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    names = args.targets or list(TARGETS)
    failed = []
    for name in names:
        process = multiprocessing.get_context("fork").Process(
            target=fuzz, args=(name, args.seconds / len(names), args.seed)
        )
        process.start()
        process.join()
        if process.exitcode:
            failed.append(name)
            print(f"{name}: FAILED, status {process.exitcode}", flush=True)
    print(f"{len(names) - len(failed)} of {len(names)} targets without a failure")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
