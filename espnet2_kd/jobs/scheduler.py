"""What the driver asks of a scheduler."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from espnet2_kd.jobs.folder import Submission

PENDING, RUNNING, ENDED, FAILED = "pending", "running", "ended", "failed"
OUT_OF_MEMORY = "out of memory"
TIME_LIMIT = "over its time limit"
NODE_FAILURE = "its node failed"
PREEMPTED = "preempted"
CANCELLED = "cancelled"
REMEDIES = {
    OUT_OF_MEMORY: "give it more with --mem",
    TIME_LIMIT: "give it more with --time",
    CANCELLED: "somebody took it out of the queue",
}
# What schedulers write into a task's output when they end it, where its state alone does not tell.
TRACES = {
    OUT_OF_MEMORY: re.compile(
        r"oom.kill|exceeded (job |step )?memory limit|out of memory|\b(mem|vmem|h_vmem)\b.{0,40}exceed", re.I
    ),
    TIME_LIMIT: re.compile(r"DUE TO TIME LIMIT|walltime .{0,40}exceed", re.I),
    PREEMPTED: re.compile(r"DUE TO PREEMPTION", re.I),
    NODE_FAILURE: re.compile(r"DUE TO NODE FAILURE", re.I),
}


class SubmitError(RuntimeError):
    """A scheduler has refused a job; the message is the scheduler's."""


class UnreachableError(RuntimeError):
    """A scheduler does not answer, which says nothing about its jobs."""


@dataclass(frozen=True)
class Condition:
    """What a scheduler says of a task.

    state: PENDING, RUNNING, ENDED (well, or it is not known how), FAILED, or one of the reasons above.
    detail: in the scheduler's words, such as why it is pending.
    """

    state: str
    detail: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in (PENDING, RUNNING)


class Scheduler(Protocol):
    """Slurm, Grid Engine, PBS, machines reached by ssh, or a driver of Kaldi's kind."""

    lasting: bool  # whether its jobs outlive the driver

    def batches(self, numbers: Sequence[int]) -> list[Submission]:
        """Deal jobs out to arrays as large as it takes them."""

    def submit(self, submission: Submission) -> None:
        """Hand an array over and note its id. Raises SubmitError."""

    def conditions(self, submissions: Sequence[Submission]) -> dict[int, Condition]:
        """What it says of the jobs in them, by number; those it does not know are missing. Raises UnreachableError."""

    def cancel(self, submissions: Sequence[Submission]) -> None:
        """Take what is left of them out of the queue, and end what runs."""


def ask(words: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one of a scheduler's commands. Raises UnreachableError where it is not installed or hangs."""
    # Inside another job, its variables would be taken for options of the new one.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise UnreachableError(f"{words[0]}: not installed on this machine, or not in PATH") from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{words[0]} did not answer within {timeout:.0f} s") from error


def stretches(numbers: Sequence[int], longest: int) -> list[list[int]]:
    """Cut sorted numbers into runs without gaps, of at most `longest`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1 and len(found[-1]) < longest:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def span(numbers: Sequence[int]) -> str:
    """Write a run without gaps as `3-7`, or `3`."""
    return f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])


def trace(text: str) -> str | None:
    """The reason that a scheduler has written into a task's output."""
    return next((reason for reason, pattern in TRACES.items() if pattern.search(text)), None)
