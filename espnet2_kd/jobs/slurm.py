"""Slurm: sbatch, squeue, sacct, scancel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from espnet2_kd.jobs import scheduler
from espnet2_kd.jobs.conf import Conf
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.request import Request
from espnet2_kd.jobs.scheduler import Condition, SubmitError, UnreachableError, ask

MAX_ARRAY_SIZE = 1001  # Slurm's own default
STATES = {
    **dict.fromkeys(
        ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"),
        scheduler.PENDING,
    ),
    **dict.fromkeys(
        ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"), scheduler.RUNNING
    ),
    "COMPLETED": scheduler.ENDED,
    "FAILED": scheduler.FAILED,
    "OUT_OF_MEMORY": scheduler.OUT_OF_MEMORY,
    **dict.fromkeys(("TIMEOUT", "DEADLINE"), scheduler.TIME_LIMIT),
    **dict.fromkeys(("NODE_FAIL", "BOOT_FAIL"), scheduler.NODE_FAILURE),
    "PREEMPTED": scheduler.PREEMPTED,
    **dict.fromkeys(("CANCELLED", "REVOKED"), scheduler.CANCELLED),
}


class Slurm:
    """Arrays of Slurm; a task's index is its job's number less a multiple of the largest array's size."""

    lasting = True

    def __init__(self, request: Request, folder: Folder, conf: Conf) -> None:
        self.request, self.folder = request, folder
        self.words = conf.words(
            {"name": folder.path.name, **request.resources} if "name" in conf.options else request.resources
        )

    def batches(self, numbers: Sequence[int]) -> list[Submission]:
        if self.request.name is None:
            return [Submission([number], array=False) for number in numbers]
        limit = re.search(r"MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]).stdout)
        size = int(limit[1]) if limit else 0
        size = size or MAX_ARRAY_SIZE  # where arrays are forbidden, sbatch says so
        return [Submission(list(group), size * index) for index, group in groupby(numbers, lambda n: n // size)]

    def submit(self, submission: Submission) -> None:
        number, output = f'"$(({submission.offset} + SLURM_ARRAY_TASK_ID))"', submission.output("%a")
        words = [*self.words, "--parsable", "--open-mode=append", "--requeue"]
        seconds = self.request.number("save_seconds")
        if seconds:
            words.append(f"--signal=B:USR1@{seconds}")
        if submission.array:
            indices = ",".join(
                scheduler.span([n - submission.offset for n in run])
                for run in scheduler.stretches(submission.numbers, len(submission.numbers))
            )
            limit = self.request.number("max_jobs_run")
            words.append(f"--array={indices}" + (f"%{limit}" if limit else ""))
        else:
            number, output = str(submission.numbers[0]), submission.output(submission.numbers[0])
        submission.script = str(self.folder.write_script(number))
        ended = ask([*words, f"--output={self.folder.path / output}", submission.script])
        if ended.returncode != 0 or not ended.stdout.strip():
            raise SubmitError(f"{' '.join(words)}: {ended.stderr.strip() or ended.stdout.strip()}")
        # `id` or, where clusters are joined, `id;cluster`
        submission.id = ended.stdout.strip().splitlines()[-1].split(";")[0]

    def conditions(self, submissions: Sequence[Submission]) -> dict[int, Condition]:
        ids = ",".join(one.id for one in submissions)
        queue = ask(["squeue", "-h", "-r", "-t", "all", "-j", ids, "-o", "%i|%T|%r"])
        if queue.returncode != 0 and "Invalid job id" not in queue.stderr:
            raise UnreachableError(f"squeue: {queue.stderr.strip()}")
        found = self._read(queue.stdout, submissions)
        if any(number not in found for one in submissions for number in one.numbers):
            # What has ended leaves the queue after MinJobAge, and lives on in the accounts, if there are any.
            accounts = ask(["sacct", "-n", "-X", "-P", "-D", "-j", ids, "-o", "JobID,State,Reason"])
            if accounts.returncode == 0:
                found = {**self._read(accounts.stdout, submissions), **found}
        return found

    def _read(self, text: str, submissions: Sequence[Submission]) -> dict[int, Condition]:
        """Read `id|state|reason` lines; of a job that was started again, the last line counts."""
        found = {}
        members = {one.id: (one, set(one.numbers)) for one in submissions}
        for line in text.splitlines():
            match = re.fullmatch(r"(\d+)(?:_(\d+))?\|([A-Z_]+)[^|]*\|(.*)", line.strip())
            if match is None or match[1] not in members:
                continue
            one, numbers = members[match[1]]
            number = one.offset + int(match[2]) if match[2] else one.numbers[0]
            if number not in numbers:
                continue
            detail = "" if match[4] == "None" else match[4]
            found[number] = Condition(STATES.get(match[3], scheduler.RUNNING), detail)
        return found

    def cancel(self, submissions: Sequence[Submission]) -> None:
        ask(["scancel", *(one.id for one in submissions)])
