"""A tiny recipe that really runs: made once, copied for every fault; what its runs say, and what they write."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from programs import ask

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
OPTIONS = (
    *("--synthetic", "true", "--local_data_opts", "--num_train 120", "--nbpe", "40"),
    *("--nj", "2", "--inference_nj", "2", "--num_threads", "1", "--ngpu", "0", "--cache_teacher", "true"),
    *("--teacher_config", "conf/teacher.yaml", "--distill_configs", "conf/student.yaml"),
    *("--inference_config", "conf/greedy.yaml"),
)
TEACHER, STUDENT = "exp/asr_teacher_seed1", "exp/asr_student_seed1"
MODEL = "valid.loss_transducer.ave.pth"
DECODED = f"{STUDENT}/decode_greedy_valid.loss_transducer.ave/test"
TIMEOUT = 600  # seconds
# What tells how far a run is, not what it made.
_NOT_MADE = ("*.lock", "*.started", "*.log", "*.log.[0-9]*", "*/__pycache__/*", "exp/report/*", "RESULTS.md")


@dataclass(frozen=True)
class Run:
    """A command that has ended: exit status (negative: by that signal), all that it said, and how long it took."""

    status: int
    output: str
    seconds: float

    @property
    def stage(self) -> str:
        """The stage that it was in at the end, as `2 feats`; `0 start` before the first."""
        return (["0 start"] + [f"{n} {name}" for n, name in re.findall(r"\) Stage (\d+): (\w+)", self.output)])[-1]

    def line(self, pattern: str) -> str:
        """The first line in which the pattern is found; AssertionError without one."""
        for line in self.output.splitlines():
            if re.search(pattern, line):
                return line.strip()
        raise AssertionError(f"nothing says {pattern!r}: status {self.status}\n{self.output[-3000:]}")


class Recipe:
    """A recipe's directory in a project of its own, made of links to this one."""

    # Where `programs` answers; None: programs are started as users start them.
    programs: Path | None = None

    def __init__(self, project: Path) -> None:
        self.path = project / "egs2/faults/asr1"

    @classmethod
    def make(cls, project: Path) -> Recipe:
        """A directory like egs2/mini/asr1, with models that train in seconds; nothing is run."""
        recipe = cls._linked(project)
        mini = ROOT / "egs2/mini/asr1"
        for path in [mini / "run.sh", *mini.glob("local/*.*"), *mini.glob("conf/*.yaml"), *HERE.glob("conf/*.yaml")]:
            folder = recipe.path / (path.parent.name if path.parent != mini else ".")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
        return recipe

    def copy(self, project: Path) -> Recipe:
        """The same at another place, dates included, since some steps go by them."""
        recipe = self._linked(project)
        shutil.copytree(self.path, recipe.path, symlinks=True)
        return recipe

    @classmethod
    def _linked(cls, project: Path) -> Recipe:
        for name in ("espnet2_kd", "utils", "tools", "egs2/TEMPLATE"):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).symlink_to(ROOT / name)
        return cls(project)

    @cached_property
    def utts(self) -> list[str]:
        """Training utterances."""
        return [line.split()[0] for line in self.lines("data/train/wav.scp")]

    def lines(self, name: str) -> list[str]:
        """Lines of a file."""
        return (self.path / name).read_text(encoding="utf-8").splitlines()

    def set_line(self, name: str, number: int, line: str) -> None:
        """Replace a line, counted from 1."""
        lines = self.lines(name)
        lines[number - 1] = line
        self.write(name, "".join(f"{line}\n" for line in lines))

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file whole."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        """Start a command in a process group of its own; its output goes to the file `said`."""
        with (self.path / "said").open("w") as said:
            return subprocess.Popen(
                command,
                cwd=self.path,
                env=environment_with(environment),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen, began: float) -> Run:
        """Wait for a command; TimeoutError, and an end to it, after ten minutes."""
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output = (self.path / "said").read_text(encoding="utf-8", errors="replace")
        return Run(process.returncode, output, time.monotonic() - began)

    def call(self, *command: str, **environment: str) -> Run:
        """Run a command with the environment of the recipes."""
        began = time.monotonic()
        if self.programs is None or command[:2] != ("python3", "-m"):
            source = '. ../../TEMPLATE/kd1/path.sh; exec "$@"'
            return self.finish(self.start("bash", "-c", source, "call", *command, **environment), began)
        said = self.path / "said"
        env = self.recipe_environment | environment
        where = {"cwd": str(self.path), "env": env, "said": str(said)}
        status = ask(str(self.programs), module=command[2], argv=command[3:], **where)
        return Run(status, said.read_text(encoding="utf-8", errors="replace"), time.monotonic() - began)

    @cached_property
    def recipe_environment(self) -> dict[str, str]:
        """What path.sh makes of ours."""
        source = ". ../../TEMPLATE/kd1/path.sh; env -0"
        done = subprocess.run(
            ["bash", "-c", source], cwd=self.path, env=environment_with({}), capture_output=True, text=True, check=True
        )
        return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)

    def module(self, name: str, *options: str | Path, **environment: str) -> Run:
        """Run `python3 -m espnet2_kd.bin.<name>`."""
        return self.call("python3", "-m", f"espnet2_kd.bin.{name}", *map(str, options), **environment)

    def run(self, *options: str, **environment: str) -> Run:
        """Run run.sh with the options of all rows and these."""
        return self.finish(self.start("bash", "run.sh", *OPTIONS, *options, **environment), time.monotonic())

    def train(self, exp: str, *options: str, model: str = STUDENT, **environment: str) -> Run:
        """Train into another directory with the command that a model was trained with, and more options."""
        return self.call(*self.train_command(exp, *options, model=model), **environment)

    def train_command(self, exp: str, *options: str, model: str = STUDENT) -> list[str]:
        """See `train`."""
        command = shlex.split(json.loads((self.path / model / "run.json").read_text())["command"])
        return ["python3", *command[1:], "--output_dir", exp, *options]

    @contextmanager
    def with_programs(self, address: Path) -> Iterator[None]:
        """Have all recipes' programs forked from a process that has imported what they need."""
        source = '. ../../TEMPLATE/kd1/path.sh; exec "$@"'
        server = self.start("bash", "-c", source, "programs", "python3", str(HERE / "programs.py"), str(address))
        try:
            wait_for(lambda: "ready" in (self.path / "said").read_text(), server)
            Recipe.programs = address
            yield
        finally:
            Recipe.programs = None
            server.kill()
            server.wait()

    def files(self) -> dict[str, tuple[int, int]]:
        """Time and size of everything that the recipe has made."""
        made = {}
        for top in ("data", "dump", "exp"):
            for path in (self.path / top).rglob("*"):
                name = str(path.relative_to(self.path))
                if not path.is_dir() and not any(fnmatch.fnmatch(name, pattern) for pattern in _NOT_MADE):
                    made[name] = path.lstat().st_mtime_ns, path.lstat().st_size
        return made

    def changed(self, before: dict[str, tuple[int, int]]) -> list[str]:
        """What is new or was written again since then."""
        return sorted(name for name, state in self.files().items() if before.get(name) != state)


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what belongs to other recipes, and with the faults of `injected`."""
    env = {key: value for key, value in os.environ.items() if key not in ("KD_DATA", "KD_ROOT", "PYTHONPATH")}
    injected = str(HERE / "injected")
    path = f"{injected}{os.pathsep}{env['PATH']}"
    return env | {"KD_VENV": sys.prefix, "OMP_NUM_THREADS": "1", "PATH": path, "PYTHONPATH": injected} | more


def wait_for(what: Callable[[], bool], process: subprocess.Popen, seconds: float = TIMEOUT) -> None:
    """Wait until something has come about; AssertionError if the process ends before."""
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def inside(names: Iterable[str], *patterns: str) -> bool:
    """Whether all names match one of the patterns."""
    return all(any(fnmatch.fnmatch(name, pattern) for pattern in patterns) for name in names)
