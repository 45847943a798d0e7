"""What the benchmarks share: cases timed in turn, the memory of one case, both allocator settings, a table."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the scripts beside this one import espnet2_kd, from wherever they are run

# glibc gives large buffers back to the system and takes them anew, page by page: code with large temporaries is slowed by
# that far more than lean code. Freed memory is kept under "hot", as it is on a GPU and by egs2/TEMPLATE/kd1/path.sh.
ALLOCATORS = {
    "default": {},
    "hot": {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"},
}
# So that what a case frees does not count as its memory.
FRUGAL = {"MALLOC_MMAP_THRESHOLD_": "131072"}
TUNED = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE")


def interleaved(
    cases: Mapping[str, Callable[[], object]], rounds: int, wait: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Milliseconds of each case, once a round in shuffled order, after a round that does not count.

    wait: returns when the device has finished, e.g. `torch.cuda.synchronize`.
    """
    order, shuffle = list(cases), random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        shuffle(order)
        for name in order:
            wait()
            start = time.perf_counter()
            cases[name]()
            wait()
            if turn:
                times[name].append(1000.0 * (time.perf_counter() - start))
    return times


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Median over the rounds of what one case took to what another took in the same round."""
    return statistics.median(a / b for a, b in zip(times, base, strict=True))


def peak_growth(case: Callable[[], object]) -> float:
    """MiB by which the largest resident size of this process grows. Call it once, in a process started `again` with `FRUGAL`."""
    if "torch" in sys.modules:  # what works without it is not to be measured with it
        _load_libraries()
    before = _high_water()
    case()
    return (_high_water() - before) / 1024


def _load_libraries() -> None:
    """What the first product and the first backward pass bring into memory is no part of a case."""
    import torch

    x = torch.randn(2, 64, 64, requires_grad=True)
    ((x @ x).softmax(-1).logsumexp(-1) + torch.randn(2, 64).sort(-1).values).sum().backward()


def again(*options: str, settings: Mapping[str, str] | None = None) -> object:
    """What this script prints as JSON in its last line, run again in a process of its own with more options and these variables."""
    kept = {name: value for name, value in os.environ.items() if name not in TUNED}
    command = [sys.executable, *sys.argv, *options]
    done = subprocess.run(command, env={**kept, **(settings or {})}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: failed, nothing is reported")
    return json.loads(done.stdout.splitlines()[-1])


def refuse_if_red(*tests: str) -> None:
    """Stop where the tests of what is timed do not pass: the speed of wrong results is no result."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *tests], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}\n{' '.join(tests)} does not pass: nothing is timed")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "| "
        + " | ".join(cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths)))
        + " |"
        for row in (header, *rows)
    ]
    rule = "| " + " | ".join("-" * w if n == 0 else "-" * (w - 1) + ":" for n, w in enumerate(widths)) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def machine() -> str:
    """The processor, as it names itself, and the version of torch."""
    import torch

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return (
        f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    )


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status: no VmHWM, memory cannot be measured here")
