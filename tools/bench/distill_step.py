"""What distillation costs: updates of the real training program, without a teacher, with one beside it, with a cached one.

    python tools/bench/distill_step.py --exp egs2/RECIPE/exp/asr_train_kd_aux_seed1 [--cache DIR] [--rounds 3] [--updates 150]
        [--compile inductor] [--only "student alone" "cached teacher"]

The experiment is a distilled student that has been trained there: its config.yaml says data, teacher and terms. Every case is
a process of its own, the cases in turn in shuffled order. An update is what the trainer counts as one: reading, forward,
backward, clipping, optimiser. The teacher's share is the time in which it is asked: its forward pass, or the reading of its cache.
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
import time
from pathlib import Path

import yaml
from timing import ALLOCATORS, ROOT, machine, ratio, refuse_if_red, table

NOTED = ("distributed", "required", "version")  # the trainer writes them beside its options
TRAINING = re.compile(r"1epoch:train:.*iter_time=([\d.]+),.*train_time=([\d.]+)")
ASKED = re.compile(r"teacher asked for ([\d.]+) ms an update")
SETTINGS = {**ALLOCATORS["hot"], "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
TESTS = ("test/kd/test_distill.py", "test/tasks/test_teacher_cache.py")


def cases(config: dict, cache: str | None, backend: str | None) -> dict[str, dict]:
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
    more = {", bfloat16": {"autocast": "bfloat16"}}
    if backend:
        more[", compiled"] = {"compile": backend}
    return known | {name + how: {**change, **extra} for how, extra in more.items() for name, change in known.items()}


def train(options: list[str]) -> None:
    """The training program, which says at its end how long the teacher was asked."""
    import torch

    from espnet2_kd.bin.asr_train import main as asr_train
    from espnet2_kd.kd import student

    times: list[float] = []
    both_sides = student._both_sides

    def timed(model, teacher, *args):
        observe = type(teacher).observe

        def asked(*batch):
            wait = torch.cuda.synchronize if next(model.parameters()).is_cuda else lambda: None
            wait()
            start = time.perf_counter()
            observed = observe(teacher, *batch)
            wait()
            times.append(time.perf_counter() - start)
            return observed

        teacher.__dict__["observe"] = asked
        return both_sides(model, teacher, *args)

    student._both_sides = timed
    asr_train(options)
    if times:
        print(f"teacher asked for {1000 * statistics.median(times):.3f} ms an update")


def run(config: dict, updates: int) -> tuple[float, float, float]:
    """Milliseconds of an update, of it those spent waiting for data and asking the teacher: medians, without the first ones."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench.yaml")  # the trainer writes a config.yaml of its own
        path.write_text(yaml.safe_dump({**config, "output_dir": folder}), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).resolve()), "--train", "--config", str(path)]
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
    asked = ASKED.search(done.stdout)
    return 1000 * statistics.median(total), 1000 * statistics.median(waiting), float(asked[1]) if asked else 0.0


def main() -> None:
    """Print a table."""
    if sys.argv[1:2] == ["--train"]:
        train(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument(
        "--cache", default=None, help="teacher cache of these terms (default: the experiment's, if any)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--compile", help="time what a backend of torch.compile makes of it too; it may take minutes to do so"
    )
    parser.add_argument("--only", nargs="+", help="these cases, by their names in the table, beside the student alone")
    args = parser.parse_args()
    args.exp = args.exp.resolve()
    if not (args.exp / "config.yaml").is_file():
        parser.error(f"{args.exp}: no config.yaml: name the folder of a trained student")
    if args.cache:
        args.cache = str(Path(args.cache).resolve())
    os.chdir(args.exp.parents[1])  # where the paths of its configuration start
    config = yaml.safe_load((args.exp / "config.yaml").read_text(encoding="utf-8"))
    for key in NOTED:
        config.pop(key, None)
    config["ngpu"] = int(args.device == "cuda")
    if not config.get("kd_terms"):
        parser.error(f"{args.exp} was trained without distillation: name a distilled student")
    known = cases(config, args.cache or config.get("teacher_cache"), args.compile)
    if args.only:
        if unknown := [name for name in args.only if name not in known]:
            parser.error(f"--only {'; '.join(unknown)}: the cases here are {'; '.join(known)}")
        known = {name: change for name, change in known.items() if name in ("student alone", *args.only)}
    refuse_if_red(*TESTS)
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in known}
    order, shuffle = list(known), random.Random(0).shuffle
    for _ in range(args.rounds):
        shuffle(order)
        for name in order:
            times[name].append(run({**config, **known[name]}, args.updates))
            print(f"{name}: {times[name][-1][0]:.0f} ms", file=sys.stderr, flush=True)
    base = [total for total, *_ in times["student alone"]]
    rows = []
    for name, rounds in times.items():
        total, waiting, asked = (statistics.median(column) for column in zip(*rounds, strict=True))
        against = ratio([total for total, *_ in rounds], base)
        # Against what cannot be saved: the student's own update, and the teacher's answer.
        both = ratio([total for total, *_ in rounds], [b + asked for b, (*_, asked) in zip(base, rounds, strict=True)])
        rows.append(
            [name, f"{total:.0f}", f"{against:.2f}", f"{asked:.1f}", f"{both:.2f}", f"{100 * waiting / total:.1f} %"]
        )
    sizes = (
        f"{args.exp.parents[1].relative_to(ROOT / 'egs2')}, {args.exp.name}"
        if args.exp.is_relative_to(ROOT)
        else args.exp.name
    )
    print(f"{machine()}; {sizes}; {args.rounds} rounds of {args.updates} updates\n")
    header = [
        "case",
        "ms an update",
        "to student alone",
        "of it the teacher",
        "to student + teacher",
        "waiting for data",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()
