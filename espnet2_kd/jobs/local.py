"""Jobs on this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import BinaryIO

from espnet2_kd.jobs import log, process
from espnet2_kd.jobs.job import Job
from espnet2_kd.jobs.progress import Progress
from espnet2_kd.jobs.request import Request


@dataclass
class Running:
    """A job at work."""

    job: Job
    process: subprocess.Popen
    log_file: BinaryIO
    started: float
    peak_kb: int | None = None


def max_jobs_run(request: Request, num_threads: int) -> int:
    """How many run at a time: as many as were asked for, or as the cores allow."""
    return request.number("max_jobs_run") or max(1, len(os.sched_getaffinity(0)) // num_threads)


def run_all(request: Request, jobs: list[Job], progress: Progress, caught: Collection[int] = ()) -> list[Job]:
    """Run the jobs, so many at a time, and return those that failed; end all once a signal is caught."""
    num_threads = request.number("num_threads", 1) or 1
    slots = max_jobs_run(request, num_threads)
    waiting, running, failed = list(reversed(jobs)), [], []
    try:
        while (waiting or running) and not caught:
            while waiting and len(running) < slots and not caught:
                begun = _start(waiting.pop(), num_threads, "rotate" in request.options, progress)
                if isinstance(begun, Running):
                    running.append(begun)
                else:
                    failed.append(begun)
            for one in list(running):
                returncode = _poll(one)
                progress.follow(one.job)
                if returncode is None:
                    continue
                running.remove(one)
                _finish(one, returncode, num_threads)
                progress.done += 1
                progress.draw()
                if returncode != 0:
                    failed.append(one.job)
            time.sleep(process.POLL_SECONDS)
    finally:
        # Reached with jobs still running only when a signal or an error (a full disk) ended the loop.
        process.end([one.process for one in running], hurry=lambda: len(caught) > 1)
        for one in running:
            _finish(one, one.process.returncode, num_threads)
        progress.close()
    return failed


def _start(job: Job, num_threads: int, rotate: bool, progress: Progress) -> Running | Job:
    """Write the log's head and start the command; a job whose command cannot be started is given back."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    if rotate:
        log.rotate(job.log)
    log_file = job.log.open("wb")
    log_file.write(log.local_head(job).encode())
    log_file.flush()
    progress.skip(job)
    started = time.monotonic()
    try:
        return Running(job, process.start(job.argv, log_file, num_threads), log_file, started)
    except OSError as error:
        job.reason = f"cannot be started: {error}"
        log_file.write(f"{error}\n{log.local_tail(127, 0, num_threads)}".encode())
        log_file.close()
        return job


def _poll(one: Running) -> int | None:
    """Give the job's exit code once it has ended, and note the most memory that it or one of its children had."""
    if one.process.returncode is None:
        pid, status, usage = os.wait4(one.process.pid, os.WNOHANG)
        if pid:
            one.process.returncode = os.waitstatus_to_exitcode(status)
            one.peak_kb = usage.ru_maxrss
    return one.process.returncode


def _finish(one: Running, returncode: int, num_threads: int) -> None:
    """Write the log's tail and note why the job failed, if it did."""
    one.job.reason = log.reason(returncode)
    one.log_file.write(
        log.local_tail(returncode, round(time.monotonic() - one.started), num_threads, one.peak_kb).encode()
    )
    one.log_file.close()
