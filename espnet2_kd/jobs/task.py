"""Runs one task of an array on the node that a scheduler has given it: its log, its status file, its signals.

    python -m espnet2_kd.jobs.task FOLDER NUMBER

The command runs as a child, so that this process lives to write down how it ended when the kernel kills it for its memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from espnet2_kd.jobs import log, process, record
from espnet2_kd.jobs.folder import Folder
from espnet2_kd.jobs.job import Job
from espnet2_kd.jobs.record import Record

SCHEDULERS = ("SLURM_", "PBS_", "SGE_", "JOB_ID")
TASK_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "JOB_ID")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m espnet2_kd.jobs.task", description=__doc__)
    parser.add_argument("--inherit", action="store_true", help="another driver has opened the log")
    parser.add_argument(
        "--tied", action="store_true", help="end when standard input is closed, as ssh does when it is lost"
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int)
    return parser


class Task:
    """A command at work on its node, and the signals that are meant for it."""

    def __init__(self, can_save: bool) -> None:
        self.child: subprocess.Popen | None = None
        self.can_save = can_save
        self.pending: list[int] = []
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(sign, self.receive)

    def receive(self, sign: int, frame: object) -> None:
        """Hand a signal on to the command, or keep it until there is one."""
        if sign == signal.SIGUSR2:  # Grid Engine's notice before it kills
            sign = signal.SIGTERM
        if sign == signal.SIGUSR1 and not self.can_save:
            return  # a notice that time runs out; a command that does not know it would die of it
        if self.child is None:
            self.pending.append(sign)
        elif self.child.poll() is None:
            self.child.send_signal(sign)

    def run(self, argv: list[str], output: BinaryIO, num_threads: int) -> int:
        """Run the command to its end and return its code, negative for a signal."""
        try:
            self.child = process.start(argv, output, num_threads)
        except OSError as error:
            output.write(f"{error}\n".encode())
            return 127
        while self.pending:
            self.child.send_signal(self.pending.pop())
        returncode = self.child.wait()
        process.signal_group(self.child, signal.SIGKILL)  # what it has left behind
        return returncode

    def tie(self) -> None:
        """Have the command ended when standard input is closed."""

        def watch() -> None:
            while os.read(0, 1024):
                pass
            if self.child is not None:
                process.end([self.child])

        threading.Thread(target=watch, daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    folder = Folder(args.folder)
    array = folder.read_array()
    task = Task(array["save"])
    job = folder.job(array, args.number)
    os.chdir(array["directory"])
    before = record.read(folder.record(args.number))
    attempt = before.attempt + 1 if before else 1
    began, host = time.time(), socket.gethostname()
    name = next((os.environ[key] for key in TASK_IDS if key in os.environ), "")
    about = {key: value for key, value in os.environ.items() if key.startswith(SCHEDULERS)}
    os.environ.update(folder.read_environment())
    running = Record("running", host, name, attempt, began)
    with sys.stdout.buffer if args.inherit else _open_log(job, array["rotate"], attempt) as output:
        record.write(folder.record(args.number), running)  # only now, since whoever reads it follows the log
        output.write(log.cluster_head(job, host, about).encode())
        output.flush()
        if args.tied:
            task.tie()
        returncode = task.run(job.argv, output, array["num_threads"])
        status = 128 - returncode if returncode < 0 else returncode
        # The command is the only child that was waited for, with its own.
        peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        output.write(log.cluster_tail(status, began, time.time(), array["num_threads"], peak_kb).encode())
        output.flush()
    record.write(folder.record(args.number), replace(running, state="ended", ended=time.time(), returncode=returncode))
    return status


def _open_log(job: Job, rotate: bool, attempt: int) -> BinaryIO:
    """Open a task's log; one that its scheduler starts again writes on in it."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    if rotate and attempt == 1:
        log.rotate(job.log)
    return job.log.open("ab" if attempt > 1 else "wb")


if __name__ == "__main__":
    sys.exit(main())
