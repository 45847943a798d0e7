"""Kill a whole recipe run again and again, go on each time, and compare what is left with an uninterrupted run.

    python tools/soak/soak.py [--kills 200] [--seed 1] [--minutes 60] [--work DIR]

The recipe is egs2/mini/asr1 on its tiny corpus, in a copy of this project below DIR. Most kills come after a time drawn
from an exponential distribution, a quarter soon after the next stage has begun; both times are shares of what the
uninterrupted run takes, so that killed runs get on, however slow the machine is. Killed is the run's own process, one of
its descendants but its warden, or all of them at once. A killed run is started again with the same command; once it
succeeds, its files are compared with those of the uninterrupted run, and another round starts from nothing. After every
kill no process may be left after a few seconds. Status 1 if anything differs or is left over.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from processes import MARK, kill, kill_all, marked, survivors
from snapshot import compare, snapshot

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path("egs2/mini/asr1")
WARDEN = "utils/warden.py"
TEMPORARY = "tmp"  # the run's TMPDIR
COPIED = (
    "espnet2_kd",
    "utils",
    "egs2/TEMPLATE",
    "tools/check_env.py",
    *(f"{RECIPE}/{part}" for part in ("run.sh", "local", "conf")),
)
OPTIONS = (
    *("--synthetic", "true", "--nbpe", "40", "--speed_perturb_factors", "0.9 1.0", "--cache_teacher", "true"),
    *("--nj", "1", "--inference_nj", "1", "--num_threads", "1", "--ngpu", "0"),  # whatever cores there are
    *("--distill_configs", "conf/train_kd_aux.yaml"),
    *("--asr_args", "--max_epoch 2 --num_iters_per_epoch 10 --batch_bins 300000 --scheduler_conf max_lr=0.0001"),
)
MEAN_TIME = 0.08  # until a kill of the first kind, as a share of the uninterrupted run
STAGE_TIME = 0.05  # after a stage's beginning, at most, of the second kind
GONE_SECONDS = 8.0  # by then nothing may be left of a killed run
STAGE = re.compile(rb"Stage (\d): (\w+)")
MAX_FAILURES = 2  # of runs that are not killed, in a round
VICTIMS = {"run": 0.5, "descendant": 0.35, "all": 0.15}


@dataclass
class Attempt:
    """One start of the recipe."""

    process: subprocess.Popen
    mark: str
    output: Path

    def stages(self) -> list[str]:
        """Names of the stages that it has begun."""
        return [f"{number.decode()} {name.decode()}" for number, name in STAGE.findall(self.output.read_bytes())]


@dataclass
class Tally:
    """What the kills hit, and what went wrong."""

    stages: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rounds: int = 0

    @property
    def kills(self) -> int:
        return self.stages.total()

    def add(self, stage: str, victim: str, name: str) -> None:
        """Note a kill."""
        self.stages[stage] += 1
        self.victims[victim] += 1
        print(f"round {self.rounds + 1}, kill {self.kills}: in stage {stage}: {victim} {name[:80]}", flush=True)

    def blame(self, text: str) -> None:
        """Note a fault."""
        self.faults.append(text)
        print(f"FAULT {text}", flush=True)


def start(project: Path, mark: str) -> Attempt:
    """Start the recipe in a session of its own."""
    output, temporary = project.parent / f"output.{mark}", project.parent / TEMPORARY
    temporary.mkdir(exist_ok=True)
    # What torch has compiled is kept from run to run, beside the temporary files where nobody says where.
    compiled = project.parent / "compiled"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", str(project / RECIPE / "run.sh"), *OPTIONS],
            env={
                **os.environ,
                MARK: mark,
                "KD_VENV": sys.prefix,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(temporary),
                "TORCHINDUCTOR_CACHE_DIR": str(compiled),
            },
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Attempt(process, mark, output)


def copy_project(project: Path) -> None:
    """Copy what the recipe needs, so that edits of the checkout do not reach it."""
    for name in COPIED:
        target = project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, target)


def renew_recipe(project: Path) -> None:
    """Remove what the stages have made."""
    for path in (project / RECIPE).iterdir():
        if path.name not in ("run.sh", "local", "conf"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def uninterrupted(project: Path) -> tuple[float, dict[str, str]]:
    """Copy the project and run the recipe; give seconds and snapshot, those of an earlier soak where it left any."""
    record = project.with_name("uninterrupted.json")
    if record.exists():
        return tuple(json.loads(record.read_text()))
    copy_project(project)
    began = time.monotonic()
    attempt = start(project, "uninterrupted")
    try:
        if attempt.process.wait() != 0:
            sys.exit(f"the uninterrupted run failed: see {attempt.output}")
    finally:
        kill_all(attempt.mark)
    found = time.monotonic() - began, snapshot(project / RECIPE)
    record.write_text(json.dumps(found))
    return found


def wait_for_kill(attempt: Attempt, rng: random.Random, furthest: int, whole: float) -> bool:
    """Wait until it is time for a kill, or return False because the run has ended before."""
    if rng.random() < 0.75:
        return not _ended(attempt, rng.expovariate(1 / (MEAN_TIME * whole)))
    while len(attempt.stages()) <= furthest:
        if _ended(attempt, 0.1):
            return False
    return not _ended(attempt, rng.uniform(0, STAGE_TIME * whole))


def _ended(attempt: Attempt, seconds: float) -> bool:
    try:
        attempt.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def strike(attempt: Attempt, rng: random.Random) -> tuple[str, str]:
    """Kill, and say which kind of victim it was, and which command."""
    (kind,) = rng.choices(list(VICTIMS), list(VICTIMS.values()))
    # Without its warden a run that is killed next leaves behind what it has started, until that comes to its end.
    others = {
        pid: name for pid, name in marked(attempt.mark).items() if pid != attempt.process.pid and WARDEN not in name
    }
    if kind == "all":
        kill_all(attempt.mark)
        # Nobody is left to remove them, as after a power cut, after which the system does.
        for folder in (attempt.output.parent / TEMPORARY).iterdir():
            shutil.rmtree(folder)
    elif kind == "descendant" and others:
        pid = rng.choice(sorted(others))
        kill(pid)
        return kind, others[pid]
    else:
        kill(attempt.process.pid)
        kind = "run"
    return kind, ""


def killed_rounds(project: Path, args: argparse.Namespace, tally: Tally, whole: float) -> Iterator[int]:
    """Run the recipe from nothing to its end, killed many times, until there were enough kills; yields after every end."""
    rng = random.Random(args.seed)
    deadline = time.monotonic() + 60 * args.minutes
    while tally.kills < args.kills and time.monotonic() < deadline:
        renew_recipe(project)
        furthest = number = failures = 0
        while True:
            number += 1
            attempt = start(project, f"{tally.rounds}.{number}")
            victim = ""
            try:
                # Without one of its descendants the run may go on for a while, or to its end.
                while victim in ("", "descendant") and tally.kills < args.kills and time.monotonic() < deadline:
                    if not wait_for_kill(attempt, rng, furthest, whole):
                        break
                    stages = attempt.stages()
                    furthest = max(furthest, len(stages))
                    victim, name = strike(attempt, rng)
                    tally.add(stages[-1] if stages else "0 start", victim, name)
                status = attempt.process.wait()
                if left := survivors(attempt.mark, GONE_SECONDS):
                    tally.blame(
                        f"{GONE_SECONDS:.0f} s after the end of a run, killed: {victim or 'nothing'}, there are {left}"
                    )
            finally:
                kill_all(attempt.mark)
            if status == 0:
                break
            if not victim:
                failures += 1
                tally.blame(f"status {status} although nothing was killed, see {attempt.output}")
                if failures > MAX_FAILURES:
                    return
        tally.rounds += 1
        yield tally.kills


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of moments and victims (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=600, help="no more kills after them (default: %(default)s)")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for everything, kept; one that an earlier soak has used saves the uninterrupted run (default: a new one, removed after success)",
    )
    return parser


def main() -> int:
    args = get_parser().parse_args()
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    work = (args.work or Path(tempfile.mkdtemp(prefix="kd_soak."))).resolve()
    project = work / "project"
    tally = Tally()
    began = time.monotonic()
    whole, expected = uninterrupted(project)
    print(f"uninterrupted: {whole:.0f} s, {len(expected)} files", flush=True)
    for kills in killed_rounds(project, args, tally, whole):
        found = snapshot(project / RECIPE)
        faults = [f"left over: {path}" for path in (work / TEMPORARY).iterdir()]
        faults += [f"{what}: {name}" for what, names in compare(expected, found).items() for name in names]
        print(f"round {tally.rounds}: {kills} kills so far, {len(found)} files, {len(faults)} faults", flush=True)
        for fault in faults:
            tally.blame(f"round {tally.rounds}: {fault}")
        if faults:
            shutil.copytree(project / RECIPE, work / f"round.{tally.rounds}", symlinks=True)
    print(f"\n{tally.kills} kills in {tally.rounds} rounds, {(time.monotonic() - began) / 60:.0f} minutes")
    for title, counts in (("stage", tally.stages), ("victim", tally.victims)):
        print(f"{title:>12}  kills")
        for name, number in sorted(counts.items()):
            print(f"{name:>12}  {number:5}")
    print("\n".join(tally.faults))
    print("FAILED" if tally.faults or tally.kills < args.kills else "PASSED")
    if not tally.faults and args.work is None:
        shutil.rmtree(work)
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
