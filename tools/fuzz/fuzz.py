"""Fuzz everything that reads files: no crash, no hang, no traceback, no unbounded memory, whatever is in them.

    python tools/fuzz/fuzz.py [--seconds 3600] [--seed 0] [--engine atheris] [TARGET ...]

Hypothesis changes good files, a target at a time, in a process of its own. A failure is shrunk and printed with its
traceback; the other targets go on. Status 1 if there was one. Failures are kept in .hypothesis and tried first next time.
With `--engine atheris` (pip install atheris) libFuzzer does the drawing, led by which lines an example reaches.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

BATCH = 300  # examples
HANG_SECONDS = 60  # of the whole process without a finished example
MEMORY_BYTES = 2 << 30  # beyond what the process has when it begins


def fuzz(name: str, seconds: float, seed: int) -> None:
    """Fuzz one target; raises whatever a target raises, which is what is looked for."""
    from harness import check

    limit_memory()
    deadline = time.monotonic() + seconds
    num_examples = 0
    while time.monotonic() < deadline:
        num_examples += check(
            name, BATCH, seed, beat=lambda: faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        )
        seed += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{name}: {num_examples} examples", flush=True)


def fuzz_with_atheris(name: str, seconds: float, seed: int) -> None:
    """Fuzz one target; libFuzzer ends the process, after a failure with a status that is not 0."""
    import atheris
    from harness import as_test

    kept = ROOT / ".hypothesis/atheris"
    kept.mkdir(parents=True, exist_ok=True)
    limits = (
        f"-artifact_prefix={kept}/",
        f"-max_total_time={seconds:.0f}",
        f"-rss_limit_mb={MEMORY_BYTES >> 20}",
        f"-timeout={HANG_SECONDS}",
        f"-seed={seed + 1}",
    )
    atheris.Setup(
        [sys.argv[0], *limits, "-verbosity=1"], as_test(name, 1, False, lambda: None).hypothesis.fuzz_one_input
    )
    atheris.Fuzz()


def load_targets(engine: str) -> list[str]:
    """Import what is fuzzed, for atheris so that it sees which lines are reached; give the names of the targets."""
    if engine == "hypothesis":
        from targets import TARGETS
    else:
        import atheris

        with atheris.instrument_imports(include=["espnet2_kd"]):
            from targets import TARGETS
    return list(TARGETS)


def limit_memory() -> None:
    """Let the address space grow by so much and no more, so that a bomb is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES,) * 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="functions of targets.py (default: all)")
    parser.add_argument(
        "--engine", choices=("hypothesis", "atheris"), default="hypothesis", help="what draws the examples"
    )
    parser.add_argument("--seconds", type=float, default=3600, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the examples (default: %(default)s)")
    args = parser.parse_args()
    known = load_targets(args.engine)
    if unknown := set(args.targets) - set(known):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    names = args.targets or known
    work = fuzz if args.engine == "hypothesis" else fuzz_with_atheris
    failed = []
    for name in names:
        process = multiprocessing.get_context("fork").Process(
            target=work, args=(name, args.seconds / len(names), args.seed)
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
