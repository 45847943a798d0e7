"""PBS Professional and OpenPBS: qsub, qstat, qdel."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from espnet2_kd.jobs import scheduler
from espnet2_kd.jobs.conf import Conf
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.request import Request
from espnet2_kd.jobs.scheduler import Condition, SubmitError, UnreachableError, ask

MAX_ARRAY_SIZE = 10000  # PBS's own default of max_array_size
STATES = {
    **dict.fromkeys("QHWT", scheduler.PENDING),
    **dict.fromkeys("RBESU", scheduler.RUNNING),
    **dict.fromkeys("FXM", scheduler.ENDED),
}
# Exit_status where PBS itself ended a job (negative), or a signal did (256 and the signal's number).
EXITS = {-29: scheduler.TIME_LIMIT, -27: scheduler.OUT_OF_MEMORY, -4: scheduler.NODE_FAILURE}
COMMENTS = {
    scheduler.TIME_LIMIT: re.compile(r"walltime", re.I),
    scheduler.OUT_OF_MEMORY: re.compile(r"\b(mem|vmem|memory)\b.*exceed|exceed.*\b(mem|vmem|memory)\b", re.I),
    scheduler.PREEMPTED: re.compile(r"preempt", re.I),
    scheduler.NODE_FAILURE: re.compile(r"node (is )?(down|fail)", re.I),
    scheduler.CANCELLED: re.compile(r"deleted|terminated", re.I),
}


class Pbs:
    """Arrays of PBS; an array has two tasks at least, and one alone is an ordinary job."""

    lasting = True

    def __init__(self, request: Request, folder: Folder, conf: Conf) -> None:
        self.request, self.folder = request, folder
        self.words = conf.words(
            {"name": folder.path.name, **request.resources} if "name" in conf.options else request.resources
        )

    def batches(self, numbers: Sequence[int]) -> list[Submission]:
        if self.request.name is None:
            return [Submission([number], array=False) for number in numbers]
        limit = re.search(r"max_array_size = (\d+)", ask(["qstat", "-B", "-f"]).stdout)
        size = int(limit[1]) if limit else MAX_ARRAY_SIZE
        return [Submission(run, array=len(run) > 1) for run in scheduler.stretches(numbers, size)]

    def submit(self, submission: Submission) -> None:
        number, output = '"${PBS_ARRAY_INDEX}"', submission.output("^array_index^")
        words = [*self.words, "-r", "y"]
        if submission.array:
            limit = self.request.number("max_jobs_run")
            words += ["-J", scheduler.span(submission.numbers) + (f"%{limit}" if limit else "")]
        else:
            number, output = str(submission.numbers[0]), submission.output(submission.numbers[0])
        submission.script = str(self.folder.write_script(number))
        ended = ask([*words, "-j", "oe", "-o", str(self.folder.path / output), submission.script])
        if ended.returncode != 0 or not ended.stdout.strip():
            raise SubmitError(f"{' '.join(words)}: {ended.stderr.strip() or ended.stdout.strip()}")
        submission.id = ended.stdout.split()[-1]

    def conditions(self, submissions: Sequence[Submission]) -> dict[int, Condition]:
        found = {}
        for one in submissions:
            ended = ask(["qstat", "-x", "-t", "-f", "-F", "json", one.id])
            if ended.returncode != 0 and not re.search("Unknown Job", ended.stderr, re.I):
                raise UnreachableError(f"qstat: {ended.stderr.strip()}")
            found.update(read_qstat(ended.stdout, one))
        return found

    def cancel(self, submissions: Sequence[Submission]) -> None:
        ask(["qdel", *(one.id for one in submissions)])


def read_qstat(text: str, submission: Submission) -> dict[int, Condition]:
    """Read `qstat -f -F json`."""
    try:
        jobs = json.loads(text).get("Jobs", {})
    except json.JSONDecodeError:
        return {}
    found = {}
    for name, values in jobs.items():
        index = re.search(r"\[(\d*)\]", name)
        if submission.array and (index is None or not index[1]):
            continue  # the array as a whole
        number = int(index[1]) if submission.array and index else submission.numbers[0]
        if number not in submission.numbers:
            continue
        state, comment = STATES.get(values["job_state"], scheduler.RUNNING), values.get("comment", "")
        if state == scheduler.ENDED:
            code = int(values.get("Exit_status", 0))
            named = (reason for reason, pattern in COMMENTS.items() if code != 0 and pattern.search(comment))
            state = EXITS.get(code) or next(named, scheduler.FAILED if code else scheduler.ENDED)
        found[number] = Condition(state, comment)
    return found
