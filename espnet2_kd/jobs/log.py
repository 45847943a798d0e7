"""Logs of jobs as Kaldi's drivers write them: `run.pl` on this machine, `slurm.pl` and `queue.pl` on a cluster."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from espnet2_kd.jobs.job import INTERRUPTED, Job

HEAD = 1 << 14  # characters: a cluster's log names node, date and the scheduler's variables before the command
TAIL = 1 << 16
SAID = 300
STARTED = "# Started at "
ENDED = re.compile(r"^# (?:Ended \(code (\d+)(?:; signal (\d+))?\)|Finished at .* with status (\d+)$)", re.MULTILINE)


def date() -> str:
    """The time as `date` prints it, which is what Kaldi's logs hold."""
    return datetime.now().astimezone().strftime("%a %b %e %H:%M:%S %Z %Y")


def local_head(job: Job) -> str:
    """What `run.pl` writes before a command's output."""
    return f"{job.header}\n{STARTED}{date()}\n#\n"


def local_tail(returncode: int, seconds: int, num_threads: int, peak_kb: int | None = None) -> str:
    """What `run.pl` writes after it, and the most memory the command had, in KiB, where that is known.

    A negative code is the signal that ended the command, as `subprocess` has it.
    """
    code = f"code 1; signal {-returncode}" if returncode < 0 else f"code {returncode}"
    return (
        f"# Accounting: time={seconds} threads={num_threads}\n{_memory(peak_kb)}"
        f"# Ended ({code}) at {date()}, elapsed time {seconds} seconds\n"
    )


def cluster_head(job: Job, host: str, variables: Mapping[str, str]) -> str:
    """What `slurm.pl` and `queue.pl` write before a command's output, with the scheduler's variables."""
    lines = [f"# Running on {host}", f"{STARTED}{date()}"]
    lines += [f"# {name}={value!r}" for name, value in sorted(variables.items())]
    return "\n".join([*lines, job.header, ""])


def cluster_tail(status: int, begin: float, end: float, num_threads: int, peak_kb: int | None = None) -> str:
    """What they write after it, and the most memory the command had, in KiB, where that is known."""
    return (
        f"# Accounting: begin_time={round(begin)}\n# Accounting: end_time={round(end)}\n"
        f"# Accounting: time={round(end - begin)} threads={num_threads}\n{_memory(peak_kb)}"
        f"# Finished at {date()} with status {status}\n"
    )


def _memory(peak_kb: int | None) -> str:
    return "" if peak_kb is None else f"# Accounting: peak_memory_kb={peak_kb}\n"


def ended(text: str) -> str | None:
    """Tell from a log, or its end, whether the command is `done` or `failed`; None where it has not ended."""
    # A job that the scheduler has started again writes on in the same log.
    found = ENDED.findall(text[max(0, text.rfind(f"\n{STARTED}")) :])
    if not found:
        return None
    return "done" if found[-1] in (("0", "", ""), ("", "", "0")) else "failed"


def why(text: str) -> str:
    """Say why the command of a log has failed; empty where it has not, or not yet."""
    found = ENDED.findall(text[max(0, text.rfind(f"\n{STARTED}")) :])
    if not found:
        return ""
    code, sign, finished = found[-1]
    return reason(-int(sign) if sign else int(code or finished))


def said_last(text: str) -> str:
    """Give the last line that the command itself has written, up to SAID characters of it; empty where there is none."""
    lines = (line.strip() for line in reversed(text.splitlines()) if not line.startswith("#"))
    return next(filter(None, lines), "")[:SAID]


def end_of(log: Path) -> str:
    """Give the last TAIL bytes of a log."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL))
        return stream.read().decode("utf-8", errors="replace")


def status(job: Job) -> str:
    """Tell from its log whether this very command is `done`, `failed` or `incomplete`."""
    if not job.log.is_file():
        return "incomplete"
    text = job.log.read_text(encoding="utf-8", errors="replace")
    if f"\n{job.header}\n" not in "\n" + text[: HEAD + len(job.header)]:
        return "incomplete"
    return ended(text) or "incomplete"


def rotate(log: Path) -> None:
    """Keep a log that is there as LOG.1, LOG.2, ..."""
    if log.exists():
        log.rename(next(path for n in itertools.count(1) if not (path := Path(f"{log}.{n}")).exists()))


def reason(returncode: int) -> str:
    """Say why a command failed, from how it ended; empty if it did not fail."""
    if returncode < 0:
        memory = " (out of memory?)" if -returncode == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-returncode).name}{memory}"
    if returncode == INTERRUPTED:
        return f"interrupted, its state is saved: run again to go on (exit code {INTERRUPTED})"
    return f"exit code {returncode}" if returncode else ""
