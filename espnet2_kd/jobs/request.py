"""What the driver's command line asks for."""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from espnet2_kd.jobs.job import Job, substitute
from espnet2_kd.jobs.log import status

ARRAY = re.compile(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?")
PICKS = {"all", "failed", "incomplete"}
BACKENDS = ("local", "slurm", "sge", "pbs", "ssh")
FLAGS = {"rotate"}
NUMBERS = {"num_threads", "max_jobs_run", "num_nodes", "save_seconds"}
RESOURCES = ("name", "mem", "time", "gpu", "num_threads", "num_nodes")  # what a conf file has lines for
KNOWN = {*RESOURCES, *FLAGS, *NUMBERS, "backend", "config", "driver", "follow", "pick"}


class UsageError(ValueError):
    """A command line that cannot be meant."""


@dataclass
class Request:
    """A command line of `run.py`, read.

    options: what was given, by its name with underscores; the later of two counts.
    name, first, last: of `JOB=1:N`; without one, name is None and the range is 1 to 1.
    log, command: with the array's name still in them.
    """

    options: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    first: int = 1
    last: int = 1
    log: str = ""
    command: list[str] = field(default_factory=list)

    @property
    def backend(self) -> str:
        return self.options.get("backend", "local")

    @property
    def num_jobs(self) -> int:
        return self.last - self.first + 1

    @property
    def log_pattern(self) -> str:
        """The log's name with a star for the job's number, as Kaldi's messages have it."""
        return substitute(self.log, self.name, "*")

    @property
    def resources(self) -> dict[str, str]:
        """What is asked of a scheduler: Kaldi's names, and those that only the user's conf file knows."""
        ours = KNOWN - set(RESOURCES)
        return {name: value for name, value in self.options.items() if name not in ours}

    def number(self, name: str, default: int = 0) -> int:
        return int(self.options.get(name, default))

    def jobs(self) -> list[Job]:
        """All jobs of the array."""
        return [
            Job(n, Path(substitute(self.log, self.name, n)), [substitute(word, self.name, n) for word in self.command])
            for n in range(self.first, self.last + 1)
        ]

    def picked(self) -> list[Job]:
        """The jobs that `--pick` leaves to be run."""
        picks = set(self.options.get("pick", "all").split(","))
        return [job for job in self.jobs() if "all" in picks or status(job) in picks]


def parse(argv: list[str]) -> Request:
    """Read the command line; Kaldi allows options on both sides of JOB=1:N. Raises UsageError."""
    request, words = Request(), list(argv)
    while words and (words[0].startswith("--") or (request.name is None and ARRAY.fullmatch(words[0]))):
        word = words.pop(0)
        if array := ARRAY.fullmatch(word):
            request.name, request.first = array[1], int(array[2])
            request.last = int(array[3] or request.first)
            continue
        option, equals, value = word[2:].partition("=")
        option = option.replace("-", "_")
        if option in FLAGS:
            request.options[option] = "true"
            continue
        if not equals:
            if not words:
                raise UsageError(f"{word} needs a value")
            value = words.pop(0)
        request.options[option] = value
    if len(words) < 2:
        raise UsageError("a log file and a command are needed")
    request.log, *request.command = words
    _check(request)
    return request


def driver_words(request: Request) -> list[str]:
    """The words of a driver that a user has plugged in, or nothing."""
    return shlex.split(request.options.get("driver", ""))


def _check(request: Request) -> None:
    options = request.options
    if request.backend not in BACKENDS:
        raise UsageError(f"--backend {request.backend}: expected {', '.join(BACKENDS)}")
    if request.backend == "local" and "driver" not in options:
        for name in sorted(options.keys() - KNOWN):
            near = difflib.get_close_matches(name, KNOWN, 1)
            raise UsageError(f"unknown option --{name}" + (f"; did you mean --{near[0]}?" if near else ""))
        if request.number("num_nodes", 1) > 1:
            raise UsageError("--num-nodes: this machine is one; set cmd_backend in cmd.sh to that of a cluster")
    for name in sorted(options.keys() & NUMBERS):
        if not options[name].isdigit():
            raise UsageError(f"--{name} {options[name]}: expected a number")
    picks = set(options.get("pick", "all").split(","))
    if not picks <= PICKS:
        raise UsageError(f"--pick {options['pick']}: expected {', '.join(sorted(PICKS))}")
    if "follow" in options:
        try:
            re.compile(options["follow"])
        except re.error as error:
            raise UsageError(f"--follow {options['follow']}: {error}") from error
    if request.first > request.last:
        raise UsageError(f"empty range {request.name}={request.first}:{request.last}")
    if request.num_jobs > 1 and substitute(request.log, request.name, request.first) == request.log:
        raise UsageError(f"the log file's name needs {request.name} in it: {request.log}")
