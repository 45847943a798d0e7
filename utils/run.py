#!/usr/bin/env python3
"""Run a command, or an array of them, on this machine; one log file per job in Kaldi's format.

    run.py [--num-threads 2] [--max-jobs-run 4] JOB=1:32 exp/log/decode.JOB.log command --part split/JOB ...

The command is executed as it stands, without a shell: a pipeline is written `bash -c '...'`. JOB is replaced by the
job's number where neither a letter nor a digit touches it: in `text.JOB` and `part_JOB`, not in `JOBS`.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

POLL_SECONDS = 0.05
GRACE_SECONDS = 5.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
ARRAY = re.compile(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?")
ENDED = re.compile(r"^# Ended \(code (\d+)(?:; signal (\d+))?\)", re.MULTILINE)
PICKS = {"all", "failed", "incomplete"}


@dataclass
class Job:
    """One command of the array, its log, and, while it runs, its process."""

    number: int
    log: Path
    argv: list[str]
    process: subprocess.Popen | None = None
    log_file: BinaryIO | None = None
    started: float = 0.0
    follow_offset: int = 0
    reason: str = field(default="")

    @property
    def header(self) -> str:
        """The log's first line, which is also how a finished job is recognised."""
        return f"# {shlex.join(self.argv)}"


def substitute(text: str, name: str | None, number: int) -> str:
    """Replace the array's name by the job's number where it is a word of its own."""
    if name is None:
        return text
    return re.sub(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", str(number), text)


def status(job: Job) -> str:
    """Tell from its log whether this very command is `done`, `failed` or `incomplete`."""
    if not job.log.is_file():
        return "incomplete"
    text = job.log.read_text(encoding="utf-8", errors="replace")
    ended = ENDED.findall(text)
    if not text.startswith(job.header + "\n") or not ended:
        return "incomplete"
    return "done" if ended[-1] == ("0", "") else "failed"


def date() -> str:
    """The time as `date` prints it, which is what Kaldi's logs hold."""
    return datetime.now().astimezone().strftime("%a %b %e %H:%M:%S %Z %Y")


def end_with_driver() -> None:
    """In the job's process: have Linux end it if the driver is killed, lest a rerun meets it at the same files."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start(job: Job, num_threads: int, rotate: bool) -> None:
    """Write the log's head and start the command in a process group of its own, so that it can be ended whole."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    if rotate and job.log.exists():
        number = next(n for n in itertools.count(1) if not Path(f"{job.log}.{n}").exists())
        job.log.rename(f"{job.log}.{number}")
    job.log_file = job.log.open("wb")
    job.log_file.write(f"{job.header}\n# Started at {date()}\n#\n".encode())
    job.log_file.flush()
    job.follow_offset = job.log_file.tell()
    job.started = time.monotonic()
    environment = dict(os.environ, OMP_NUM_THREADS=str(num_threads), PYTHONUNBUFFERED="1")
    try:
        job.process = subprocess.Popen(
            job.argv,
            stdin=subprocess.DEVNULL,
            stdout=job.log_file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_driver,
        )
    except OSError as error:
        job.log_file.write(f"{error}\n".encode())
        finish(job, 127, num_threads)


def finish(job: Job, returncode: int, num_threads: int) -> None:
    """Write the log's tail and note why the job failed, if it did."""
    seconds = round(time.monotonic() - job.started)
    if returncode < 0:
        ended = f"code 1; signal {-returncode}"
        job.reason = f"killed by {signal.Signals(-returncode).name}"
        if -returncode == signal.SIGKILL:
            job.reason += " (out of memory?)"
    else:
        ended = f"code {returncode}"
        job.reason = f"exit code {returncode}" if returncode else ""
    assert job.log_file is not None
    job.log_file.write(
        f"# Accounting: time={seconds} threads={num_threads}\n"
        f"# Ended ({ended}) at {date()}, elapsed time {seconds} seconds\n".encode()
    )
    job.log_file.close()


class Progress:
    """Shows how far the array is, and the lines of the logs that match a pattern: a bar on a terminal, else lines."""

    def __init__(self, total: int, pattern: str | None) -> None:
        self.total = total
        self.done = 0
        self.pattern = re.compile(pattern) if pattern else None
        self.on_terminal = sys.stderr.isatty()
        self.last_line = ""

    def follow(self, job: Job) -> None:
        """Report what a job has logged since the last look."""
        if self.pattern is None:
            return
        with job.log.open("rb") as log:
            log.seek(job.follow_offset)
            fresh = log.read()
        complete = fresh.rfind(b"\n") + 1
        job.follow_offset += complete
        for line in fresh[:complete].decode("utf-8", errors="replace").splitlines():
            if self.pattern.search(line):
                self.last_line = line
                if not self.on_terminal:
                    print(line, file=sys.stderr, flush=True)
        self.draw()

    def draw(self) -> None:
        if not self.on_terminal:
            return
        done, total = self.done, self.total
        counted = re.search(r"\b(\d+)/(\d+)", self.last_line) if total == 1 else None
        if counted:
            done, total = int(counted[1]), int(counted[2])
        filled = min(20, 20 * done // max(total, 1))
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        text = f"[{'#' * filled}{'.' * (20 - filled)}] {done}/{total} {self.last_line}"
        print(f"\r\033[K{text[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.on_terminal and (self.pattern or self.total > 1):
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def end_all(running: list[Job], num_threads: int) -> None:
    """End every running job with all its children: first politely, after a grace period for good."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for job in running:
            try:
                os.killpg(job.process.pid, sign)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and any(job.process.poll() is None for job in running):
            time.sleep(POLL_SECONDS)
    for job in running:
        finish(job, job.process.wait(), num_threads)


def run_all(
    jobs: list[Job],
    num_threads: int,
    max_jobs_run: int,
    pattern: str | None = None,
    rotate: bool = False,
    caught: Collection[int] = (),
) -> list[Job]:
    """Run the jobs, at most `max_jobs_run` at a time, and return those that failed; end all once a signal is caught."""
    progress = Progress(len(jobs), pattern)
    waiting, running, failed = list(reversed(jobs)), [], []
    try:
        while (waiting or running) and not caught:
            while waiting and len(running) < max_jobs_run and not caught:
                job = waiting.pop()
                start(job, num_threads, rotate)
                if job.process is None:
                    failed.append(job)
                    continue
                running.append(job)
            for job in list(running):
                returncode = job.process.poll()
                progress.follow(job)
                if returncode is None:
                    continue
                running.remove(job)
                finish(job, returncode, num_threads)
                progress.done += 1
                progress.draw()
                if returncode != 0:
                    failed.append(job)
            time.sleep(POLL_SECONDS)
    finally:
        # Reached with jobs still running only when a signal or an error (a full disk) ended the loop.
        end_all(running, num_threads)
        progress.close()
    return failed


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-threads", type=int, default=1, help="threads per job (OMP_NUM_THREADS)")
    parser.add_argument("--max-jobs-run", type=int, default=0, help="jobs at a time; 0: as many as the cores allow")
    parser.add_argument("--pick", default="all", help="all, or failed and incomplete (separated by a comma)")
    parser.add_argument("--follow", metavar="REGEX", help="also show the log lines that match")
    parser.add_argument("--rotate", action="store_true", help="keep an earlier log as LOG.1, LOG.2, ...")
    for name in ("--mem", "--time", "--gpu", "--config"):
        parser.add_argument(name, help="for cluster drivers; not used on this machine")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="[JOB=1:N] LOG COMMAND ...")
    return parser


def parse(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[Job]]:
    """Read the command line; Kaldi allows options on both sides of JOB=1:N."""
    parser = get_parser()
    args = parser.parse_args(argv)
    name, first, last = None, 1, 1
    while args.rest:
        array = ARRAY.fullmatch(args.rest[0])
        if array:
            name, first = array[1], int(array[2])
            last = int(array[3] or first)
            rest = args.rest[1:]
        elif args.rest[0].startswith("--"):
            rest = args.rest
        else:
            break
        args = parser.parse_args(rest, argparse.Namespace(**{k: v for k, v in vars(args).items() if k != "rest"}))
    if len(args.rest) < 2:
        parser.error("a log file and a command are needed")
    if first > last:
        parser.error(f"empty range {name}={first}:{last}")
    picks = set(args.pick.split(","))
    if not picks <= PICKS:
        parser.error(f"--pick {args.pick}: expected {', '.join(sorted(PICKS))}")
    log, *command = args.rest
    if first < last and substitute(log, name, first) == log:
        parser.error(f"the log file's name needs {name} in it: {log}")
    jobs = [
        Job(n, Path(substitute(log, name, n)), [substitute(word, name, n) for word in command])
        for n in range(first, last + 1)
    ]
    if "all" not in picks:
        jobs = [job for job in jobs if status(job) in picks]
    args.log_pattern = re.sub(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", "*", log) if name else log
    args.num_jobs = last - first + 1
    return args, jobs


def main(argv: list[str] | None = None) -> int:
    args, jobs = parse(argv)

    # Only noted here: an exception could fall between a job's start and its entry among those to be ended.
    caught: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda number, frame: caught.append(number))
    cores = len(os.sched_getaffinity(0))
    max_jobs_run = args.max_jobs_run or max(1, cores // args.num_threads)
    failed = run_all(jobs, args.num_threads, max_jobs_run, args.follow, args.rotate, caught)
    if caught:
        return 128 + caught[0]
    if not failed:
        return 0
    # The next line is the one that users' scripts look for, so it keeps the name of Kaldi's driver.
    if args.num_jobs == 1:
        print(f"run.pl: job failed, log is in {args.log_pattern}", file=sys.stderr)
    else:
        print(f"run.pl: {len(failed)} / {args.num_jobs} failed, log is in {args.log_pattern}", file=sys.stderr)
    for job in sorted(failed, key=lambda job: job.number):
        print(f"  {job.log}: {job.reason}", file=sys.stderr)
    if args.num_jobs > 1:
        print("  `--pick failed,incomplete` runs only these again.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
