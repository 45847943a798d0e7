"""Grid Engine: qsub, qstat, qacct, qdel."""

from __future__ import annotations

import re
from collections.abc import Sequence

from espnet2_kd.jobs import scheduler
from espnet2_kd.jobs.conf import Conf
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.request import Request
from espnet2_kd.jobs.scheduler import Condition, SubmitError, UnreachableError, ask

MAX_TASKS = 75000  # Grid Engine's own default of max_aj_tasks
KILLED = 137  # the exit status of what SIGKILL has ended
KILLED_OUTSIDE = "killed, by qdel or for its memory"


class Sge:
    """Arrays of Grid Engine; a task's index is its job's number."""

    lasting = True

    def __init__(self, request: Request, folder: Folder, conf: Conf) -> None:
        self.request, self.folder = request, folder
        self.words = conf.words(request.resources)

    def batches(self, numbers: Sequence[int]) -> list[Submission]:
        if self.request.name is None:
            return [Submission([number], array=False) for number in numbers]
        limit = re.search(r"max_aj_tasks\s+(\d+)", ask(["qconf", "-sconf"]).stdout)
        size = int(limit[1]) if limit and int(limit[1]) else MAX_TASKS
        # Indices begin at 1.
        return [Submission(run, min(run[0] - 1, 0)) for run in scheduler.stretches(numbers, size)]

    def submit(self, submission: Submission) -> None:
        number, output = f'"$(({submission.offset} + SGE_TASK_ID))"', submission.output("$TASK_ID")
        words = [*self.words, "-terse", "-N", f"kd_{self.folder.path.name}", "-r", "y"]
        if self.request.number("save_seconds"):
            words.append("-notify")  # SIGUSR2 before the end; how long before is a matter of the queue
        if submission.array:
            words += ["-t", scheduler.span([number - submission.offset for number in submission.numbers])]
            limit = self.request.number("max_jobs_run")
            words += ["-tc", str(limit)] if limit else []
        else:
            number, output = str(submission.numbers[0]), submission.output(submission.numbers[0])
        submission.script = str(self.folder.write_script(number))
        ended = ask([*words, "-j", "y", "-o", str(self.folder.path / output), submission.script])
        found = re.search(r"^(\d+)(?:\.\d+-\d+:\d+)?$", ended.stdout, re.MULTILINE)
        if ended.returncode != 0 or not found:
            raise SubmitError(f"{' '.join(words)}: {ended.stderr.strip() or ended.stdout.strip()}")
        submission.id = found[1]

    def conditions(self, submissions: Sequence[Submission]) -> dict[int, Condition]:
        queue = ask(["qstat", "-u", "*", "-g", "d"])
        if queue.returncode != 0:
            raise UnreachableError(f"qstat: {queue.stderr.strip()}")
        found = read_qstat(queue.stdout, submissions)
        for one in submissions:
            if any(number not in found for number in one.numbers):
                found = {**read_qacct(ask(["qacct", "-j", one.id]).stdout, one), **found}
        return found

    def cancel(self, submissions: Sequence[Submission]) -> None:
        ask(["qdel", *(one.id for one in submissions)])


def read_qstat(text: str, submissions: Sequence[Submission]) -> dict[int, Condition]:
    """Read `qstat -g d`: id, priority, name, user, state, date, time, [queue,] slots, [task]."""
    members = {one.id: one for one in submissions}
    found = {}
    for line in text.splitlines():
        words = line.split()
        one = members.get(words[0]) if words else None
        if one is None or len(words) < 8:
            continue
        number = one.offset + int(words[-1]) if one.array else one.numbers[0]
        state = words[4]
        if number not in one.numbers:
            continue
        if "E" in state:
            found[number] = Condition(scheduler.FAILED, f"in Grid Engine's error state: qstat -j {one.id} says why")
        elif "q" in state or "w" in state:
            found[number] = Condition(scheduler.PENDING, "held" if "h" in state else "")
        else:
            found[number] = Condition(scheduler.RUNNING)
    return found


def read_qacct(text: str, submission: Submission) -> dict[int, Condition]:
    """Read `qacct -j`: a block per task, the last of which counts where it was started several times."""
    found = {}
    for block in re.split(r"^=+$", text, flags=re.MULTILINE):
        values = dict(re.findall(r"^(\w+)[ \t]+(.*?)[ \t]*$", block, re.MULTILINE))
        if values.get("jobnumber") != submission.id:
            continue
        number = submission.offset + int(values["taskid"]) if submission.array else submission.numbers[0]
        if number not in submission.numbers:
            continue
        found[number] = _condition(values)
    return found


def _condition(values: dict[str, str]) -> Condition:
    """What an entry of the accounts says; Grid Engine has one text for all its limits, and none for qdel."""
    failed, _, why = values.get("failed", "0").partition(":")
    failed, why = failed.strip(), why.strip()
    status = values.get("exit_status", "0").split()[0]
    if _is_over_memory(values):
        return Condition(scheduler.OUT_OF_MEMORY, why)
    if "h_rt" in why and "h_rt=" in values.get("category", ""):
        return Condition(scheduler.TIME_LIMIT, why)
    if failed == "100" and status == str(KILLED):
        return Condition(KILLED_OUTSIDE, why)
    if "rescheduling" in why:
        return Condition(scheduler.NODE_FAILURE, why)
    return Condition(scheduler.ENDED if failed == status == "0" else scheduler.FAILED, why)


def _is_over_memory(values: dict[str, str]) -> bool:
    """Whether a killed task had used all it had asked for as h_vmem; Grid Engine does not say so itself."""
    asked = re.search(r"h_vmem=([\d.]+[kmgKMG]?)", values.get("category", ""))
    used = re.fullmatch(r"([\d.]+[kmgKMG]?)B?", values.get("maxvmem", ""))
    if not asked or not used or values.get("exit_status", "").split()[:1] != [str(KILLED)]:
        return False
    return _bytes(used[1]) >= 0.95 * _bytes(asked[1])


def _bytes(text: str) -> float:
    units = {"k": 2**10, "m": 2**20, "g": 2**30}
    return float(text.rstrip("kmgKMG")) * units.get(text[-1].lower(), 1)
