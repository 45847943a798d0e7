"""What distillation costs: updates of the real training program, without a teacher, with one beside it, with a cached one.

    cd egs2/RECIPE && python ../../../tools/bench/distill_step.py --exp exp/asr_train_kd_aux_seed1 [--rounds 3] [--updates 150]

The experiment is a distilled student that has been trained here: its config.yaml says data, teacher and terms. Every case is
a process of its own, the cases in turn in shuffled order. An update is what the trainer counts as one: reading, forward,
backward, clipping, optimiser.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from timing import ALLOCATORS, ROOT, machine, ratio, table

NOTED = ("distributed", "required", "version")  # the trainer writes them beside its options
TRAINING = re.compile(r"1epoch:train:.*iter_time=([\d.]+),.*train_time=([\d.]+)")
SETTINGS = {**ALLOCATORS["hot"], "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}


def cases(config: dict, cache: str | None) -> dict[str, dict]:
    """What is changed of the experiment's configuration in each case."""
    alone = {
        "teacher": None,
        "teacher_conf": {},
        "kd_terms": [],
        "unlabelled_ratio": 0.0,
        "teacher_cache": None,
        "teacher_init": [],
    }
    live = {"teacher_cache": None}
    known = {"student alone": alone, "teacher beside it": live}
    if cache:
        known["cached teacher"] = {"teacher_cache": cache}
    known["student alone, bfloat16"] = {**alone, "autocast": "bfloat16"}
    known["teacher beside it, bfloat16"] = {**live, "autocast": "bfloat16"}
    return known


def run(config: dict, updates: int) -> tuple[float, float]:
    """Milliseconds of an update, and of it those spent waiting for data: medians over the lines of the log but the first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench.yaml")  # the trainer writes a config.yaml of its own
        path.write_text(yaml.safe_dump({**config, "output_dir": folder}), encoding="utf-8")
        command = [sys.executable, "-m", "espnet2_kd.bin.asr_train", "--config", str(path)]
        command += ["--num_iters_per_epoch", str(updates), "--log_interval", str(max(1, updates // 10))]
        done = subprocess.run(
            [*command, "--max_epoch", "1", "--resume", "false", "--use_tensorboard", "false"],
            env={**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    lines = [tuple(map(float, found)) for found in TRAINING.findall(done.stdout)][1:]
    if done.returncode or not lines:
        sys.exit(f"{done.stdout[-2000:]}\n{' '.join(command)}: failed, nothing is reported")
    waiting, total = zip(*lines, strict=True)
    return 1000 * statistics.median(total), 1000 * statistics.median(waiting)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument(
        "--cache", default=None, help="teacher cache of these terms (default: the experiment's, if any)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=150)
    args = parser.parse_args()
    config = yaml.safe_load((args.exp / "config.yaml").read_text(encoding="utf-8"))
    for key in NOTED:
        config.pop(key, None)
    if not config.get("kd_terms"):
        parser.error(f"{args.exp} was trained without distillation: name a distilled student")
    known = cases(config, args.cache or config.get("teacher_cache"))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in known}
    order, shuffle = list(known), random.Random(0).shuffle
    for _ in range(args.rounds):
        shuffle(order)
        for name in order:
            times[name].append(run({**config, **known[name]}, args.updates))
            print(f"{name}: {times[name][-1][0]:.0f} ms", file=sys.stderr, flush=True)
    base = [total for total, _ in times["student alone"]]
    rows = []
    for name, rounds in times.items():
        total, waiting = (statistics.median(column) for column in zip(*rounds, strict=True))
        against = ratio([total for total, _ in rounds], base)
        rows.append([name, f"{total:.0f}", f"{against:.2f}", f"{100 * waiting / total:.0f} %"])
    print(f"{machine()}; {args.rounds} rounds of {args.updates} updates\n")
    print(table(["case", "ms an update", "ratio", "waiting for data"], rows))


if __name__ == "__main__":
    main()
