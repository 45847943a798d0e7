"""How far a recipe is: which steps are done, running, or were interrupted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import end


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.status",
        description="What the stages of a recipe have done and have left to do, and the steps that run, have failed or were "
        "interrupted: since when and where, epochs of trainings and the time they need, jobs of arrays, why something failed and "
        "which log tells more. It only looks; run.sh goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("recipe", nargs="?", default=".", type=Path, help="its directory, or a part as exp/asr_x_seed1")
    parser.add_argument("--all", action="store_true", help="also the steps that are done")
    return parser


def main(cmd: list[str] | None = None) -> int:
    args = get_parser().parse_args(cmd)
    from espnet2_kd.report.recipe_status import render, stages, steps

    if not args.recipe.is_dir():
        print(f"{args.recipe}: no such directory; give that of a recipe, as egs2/mini/asr1", file=sys.stderr)
        return 1
    found = steps(args.recipe)
    print(render(found, args.all, stages(args.recipe, found)))
    return 0


if __name__ == "__main__":
    end(main)
