"""Injects every fault of the matrix, and every attack, into a tiny recipe that really runs, and prints what came of each.

    python test/faults [F1 S2 ...] [--output RESULTS.md] [--baseline true]

A row is a file here, `f01_garbage_header.py`: its docstring names it, STAGE is where it has to be noticed at the latest,
`check(recipe)` injects the fault, looks at status, message, files and the run after the fix, and returns a Finding. Status 1
if a row fails.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from baseline import stock_answers
from recipe import HERE, Recipe
from table import Result, markdown, report

from espnet2_kd.bin.command import true_or_false


def rows(wanted: list[str]) -> list[ModuleType]:
    """The rows of these numbers, or all."""
    modules = [importlib.import_module(path.stem) for path in sorted(HERE.glob("[fs][0-9][0-9]_*.py"))]
    numbers = {module.__doc__.split(":")[0]: module for module in modules}
    if unknown := set(wanted) - numbers.keys():
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(numbers)}")
    return [numbers[number] for number in wanted or numbers]


def made_once(project: Path) -> Recipe:
    """The recipe that all rows begin with, without a fault."""
    recipe = Recipe.make(project)
    done = recipe.run()
    if done.status:
        sys.exit(f"the recipe fails without any fault:\n{done.output[-5000:]}")
    print(f"recipe: {done.seconds:.0f} s", file=sys.stderr, flush=True)
    return recipe


def try_row(module: ModuleType, base: Recipe, folder: Path) -> Result:
    """Run one row in a copy of the recipe."""
    number, name = module.__doc__.splitlines()[0].rstrip(".").split(": ", 1)
    began = time.monotonic()
    try:
        finding, fault = module.check(base.copy(folder / number)), ""
    except Exception as error:  # noqa: BLE001  (whatever a row stumbles over, the others are tried)
        finding, fault = None, "".join(traceback.format_exception(error)[-3:])
    result = Result(number, name, module.STAGE, finding, fault, time.monotonic() - began)
    print(f"{number}: {'ok' if result.passed else 'FAILED'}, {result.seconds:.0f} s", file=sys.stderr, flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="F1 ... (default: all)")
    parser.add_argument("--output", type=Path, help="write the table as Markdown")
    parser.add_argument(
        "--keep", type=Path, help="work in this folder, leave it there, and begin with its recipe where it has one"
    )
    parser.add_argument(
        "--baseline", type=true_or_false, default=False, metavar="true|false", help="what ESPnet2's own programs do"
    )
    args = parser.parse_args()
    modules = rows(args.rows)
    # So that what was started is ended, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="faults.") as temporary:
        folder = args.keep or Path(temporary)
        base = Recipe(folder / "base") if (folder / "base").exists() else made_once(folder / "base")
        for module in modules:
            shutil.rmtree(folder / module.__doc__.split(":")[0], ignore_errors=True)
        (folder / "socket").unlink(missing_ok=True)
        pool = ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0))))
        with base.with_programs(folder / "socket"), pool:
            results = list(pool.map(lambda module: try_row(module, base, folder), modules))
        baselines = {}
        if args.baseline:
            baselines = stock_answers(base, folder / "stock")
    print(report(results, baselines))
    if args.output:
        args.output.write_text(markdown(results, baselines), encoding="utf-8")
    return int(not all(result.passed for result in results))


if __name__ == "__main__":
    sys.exit(main())
