"""Where the time of `make demo` went: each stage of egs2/mini/asr1, its longest step, and what that spends it on.

make demo && python tools/bench/demo.py
"""

from __future__ import annotations

import argparse
import os
import sys

from timing import ROOT, machine, table

from espnet2_kd.report.page.costs import read_costs

RECIPE = ROOT / "egs2/mini/asr1"
# What a stage's longest step does most of the time; of the trainings, see also losses, chunk_attention and distill_step.
SPENT_ON = {
    "data": "espeak-ng, a process for each sentence",
    "feats": "reading, checking and writing of audio, as flac",
    "stats": "loading of torch and ESPnet2, in every process",
    "teacher": "forward and backward pass, in one thread on each core",
    "distill": "forward and backward pass of the student, then of the branch, then the teacher's forward pass",
    "decode": "the streaming of every utterance in real chunks, which is what latencies are told from",
    "score": "bootstrap, and the page with its sounds and pictures",
    "pack": "compression of the weights",
}


def main() -> None:
    """Print one table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    stages, _ = read_costs(RECIPE, ("data", "dump", "exp"))
    stages = [stage for stage in stages if stage.seconds is not None and stage.stage in SPENT_ON]
    if not stages:
        sys.exit(f"{RECIPE.relative_to(ROOT)}: no finished run; make demo first")
    total = sum(stage.seconds for stage in stages)
    rows = []
    for stage in stages:
        longest = max((step for step in stage.steps if step.seconds is not None), key=lambda step: step.seconds)
        rows.append(
            [
                *(stage.stage, f"{stage.seconds:.0f}", f"{100 * stage.seconds / total:.0f} %"),
                *(longest.where.rsplit("/", 1)[0], f"{longest.seconds:.0f}", SPENT_ON[stage.stage]),
            ]
        )
    print(f"{machine()}; {os.cpu_count()} cores, {total:.0f} s in steps, set-up and report apart\n")
    print(table(["stage", "s", "share", "longest step", "s of it", "which spends it on"], rows))


if __name__ == "__main__":
    main()
