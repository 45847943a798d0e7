"""An array in a scheduler's hands: submitted, watched, started again where it wants to go on, cancelled."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from espnet2_kd.jobs import record, scheduler, verdict
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.job import Job
from espnet2_kd.jobs.progress import Progress
from espnet2_kd.jobs.record import Record
from espnet2_kd.jobs.request import Request
from espnet2_kd.jobs.scheduler import Condition, Scheduler, SubmitError, UnreachableError
from espnet2_kd.jobs.verdict import Verdict

POLL_SECONDS = 0.5  # status files
ASK_SECONDS = (1.0, 4.0)  # the scheduler: soon after something has changed, and at the latest
RETRY_SECONDS = 10.0
RETRIES = 6  # of a submission to a scheduler that is busy
CANCEL_SECONDS = 60.0
QUICK_SECONDS, QUICK_TIMES = 30.0, 5  # a task that saves and asks to go on so soon, so often, does not go on at all
BUSY = re.compile(r"timed out|try again|temporarily|unable to contact|connection refused|communication failure", re.I)


class Array:
    """The jobs of one request, and what is known of them."""

    def __init__(self, request: Request, jobs: list[Job], folder: Folder, queue: Scheduler, progress: Progress) -> None:
        self.request, self.folder, self.queue, self.progress = request, folder, queue, progress
        self.backend = type(queue).__name__.lower()
        self.jobs = {job.number: job for job in jobs}
        self.open = set(self.jobs)
        self.failed: list[Job] = []
        self.waiting: list[Submission] = []
        self.submitted: list[Submission] = []
        self.records: dict[int, tuple[int, Record]] = {}
        self.conditions: dict[int, Condition] = {}
        self.over_since: dict[int, float] = {}
        self.quick: dict[int, int] = {}
        self.states: dict[int, tuple[str, str]] = {}
        self.written: dict[int, tuple[str, str]] = {}
        self.next_ask, self.ask_seconds = 0.0, ASK_SECONDS[0]
        self.next_submit, self.refusals = 0.0, 0
        self.silent_since: float | None = None

    def prepare(self) -> None:
        """Write down what the tasks are, and take over those that an earlier driver has left in the queue."""
        self.folder.make()
        earlier = self.folder.read_submissions(self.backend) if self.queue.lasting else []
        conditions = self.queue.conditions(earlier) if earlier else {}
        live = {number for number, condition in conditions.items() if not condition.is_over}
        same = self.folder.write_array(self.request)
        self.folder.write_environment()
        if live and not same:
            self.progress.tell(f"run.py: {len(live)} jobs of another command are still in the queue: cancelled")
            self._take_out(earlier)
            live = set()
        live &= self.open
        if live:
            self.progress.tell(f"run.py: {len(live)} jobs are still in the queue from an earlier run: taken over")
            for number in live:
                self.progress.skip(self.jobs[number])
            self.submitted = [replace(one, numbers=sorted(live & set(one.numbers))) for one in earlier]
        else:
            self.folder.remove_scripts()
        self.hand_in(sorted(self.open - live))

    def hand_in(self, numbers: list[int]) -> None:
        """Queue jobs up for submission."""
        for number in numbers:
            record.write(self.folder.record(number), Record("submitted"))
            for known in (self.records, self.conditions, self.over_since):
                known.pop(number, None)
            self.progress.renew(self.jobs[number])
        for submission in self.queue.batches(numbers) if numbers else []:
            for number in submission.numbers:
                self._output(submission, number).unlink(missing_ok=True)
            self.waiting.append(submission)

    def step(self) -> None:
        """Submit what may be submitted, look at what has changed, and decide."""
        self._submit()
        changed = self._read_records()
        now = time.monotonic()
        if changed:
            self.ask_seconds = ASK_SECONDS[0]
            self.next_ask = min(self.next_ask, now + self.ask_seconds)
        if now >= self.next_ask:
            self._ask(now)
        again = []
        for one in self.submitted:
            judged = {number: self._conclude(one, number, now) for number in one.numbers}
            one.numbers = [number for number, state in judged.items() if state not in verdict.FINAL]
            again += [number for number, state in judged.items() if state == verdict.AGAIN]
        self.hand_in(again)
        self._write_states()

    def close(self, caught: Collection[int]) -> None:
        """Take what is left out of the queue, and wait until it is out; a second signal ends the waiting."""
        left = [one for one in self.submitted if one.numbers]
        if not left:
            self.folder.write_submissions(self.backend, [])
            return
        still = self._take_out(left, hurry=lambda: len(caught) > 1)
        self.states.update(dict.fromkeys(self.open, ("cancelled", "")))
        self._write_states()
        if still:
            self.progress.tell(f"run.py: still in the queue of {self.backend}: {' '.join(one.id for one in left)}")
        else:
            self.folder.write_submissions(self.backend, [])

    def _take_out(self, submissions: list[Submission], hurry=lambda: False) -> bool:
        """Cancel jobs and wait until they are gone; whether some are left."""
        deadline = time.monotonic() + CANCEL_SECONDS
        sent = False
        while True:
            with suppress(UnreachableError):
                if not sent:
                    self.queue.cancel(submissions)
                    sent = True
                if all(condition.is_over for condition in self.queue.conditions(submissions).values()):
                    return False
            if hurry() or time.monotonic() > deadline:
                return True
            time.sleep(POLL_SECONDS)

    def _numbers(self, submissions: list[Submission]) -> list[int]:
        return [number for one in submissions for number in one.numbers]

    def _submit(self) -> None:
        one_by_one = self.request.number("max_jobs_run") > 0  # the scheduler counts them in one array, not over several
        while self.waiting and time.monotonic() >= self.next_submit:
            busy = any(one.numbers for one in self.submitted)
            if busy and one_by_one:
                return
            try:
                self.queue.submit(self.waiting[0])
            except SubmitError as error:
                # Full, by this user's own jobs, or busy: later.
                self.refusals += not busy
                if not busy and (not BUSY.search(str(error)) or self.refusals > RETRIES):
                    raise
                self.next_submit = time.monotonic() + RETRY_SECONDS
                return
            self.refusals = 0
            self.submitted.append(self.waiting.pop(0))
            self.folder.write_submissions(self.backend, self.submitted)
            self.next_ask = time.monotonic() + ASK_SECONDS[0]

    def _read_records(self) -> bool:
        """Read the status files that have changed; whether there were any."""
        changed = False
        for number in self._numbers(self.submitted):
            path = self.folder.record(number)
            try:
                stamp = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if self.records.get(number, (0,))[0] != stamp and (found := record.read(path)) is not None:
                self.records[number] = (stamp, found)
                changed = True
        return changed

    def _ask(self, now: float) -> None:
        before = self.conditions
        live = [one for one in self.submitted if one.numbers]
        try:
            self.conditions = self.queue.conditions(live) if live else {}
            self.silent_since = None
        except UnreachableError as error:
            if self.silent_since is None:
                self.progress.tell(f"run.py: {error}: waiting until it answers")
                self.silent_since = now
        still = self.conditions == before
        self.ask_seconds = min(ASK_SECONDS[1], self.ask_seconds * 1.5) if still else ASK_SECONDS[0]
        self.next_ask = now + self.ask_seconds

    def _conclude(self, one: Submission, number: int, now: float) -> str:
        """Judge one job, act on it, and return the state it is in."""
        job, condition = self.jobs[number], self.conditions.get(number)
        known = self.records.get(number, (0, Record("submitted")))[1]
        unclear = condition is None or condition.is_over or known.state == "ended"
        if not unclear or self.silent_since is not None:
            self.over_since.pop(number, None)
        waited = now - self.over_since.setdefault(number, now) if unclear else 0.0
        text = self._said(one, number) if unclear and known.returncode != 0 else ""
        found = verdict.judge(known, condition, waited, scheduler.trace(text))
        if known.attempt and found.state != verdict.AGAIN:
            self.progress.follow(job)
        if found.state == verdict.AGAIN and self._is_stuck(number, known):
            found = Verdict(verdict.FAILED, f"asked {QUICK_TIMES} times to be run again, and did not get any further")
        if found.state == verdict.FAILED and not known.attempt and text.strip():
            found = Verdict(verdict.FAILED, f"{found.reason}: {text.strip().splitlines()[-1]}")
        self._note(number, found, known)
        if found.state == verdict.AGAIN:
            self.progress.tell(f"run.py: {job.log}: {found.reason}, its state is saved: submitted again")
        elif found.state in verdict.FINAL:
            self.open.discard(number)
            self.progress.done += 1
            self.progress.draw()
        if found.state == verdict.FAILED:
            job.reason = found.reason
            self.failed.append(job)
            self.progress.tell(f"run.py: {job.log}: {found.reason}")
        return found.state

    def _is_stuck(self, number: int, known: Record) -> bool:
        quick = known.ended - known.began < QUICK_SECONDS
        self.quick[number] = self.quick.get(number, 0) + 1 if quick else 0
        return self.quick[number] >= QUICK_TIMES

    def _note(self, number: int, found: Verdict, known: Record) -> None:
        """Keep a job's state for whoever looks."""
        before, _ = self.states.get(number, ("", ""))
        host = f"on {known.host}" if found.state == scheduler.RUNNING and known.host else ""
        self.states[number] = (found.state, found.reason or host)
        if found.state == scheduler.PENDING and known.attempt and before != scheduler.PENDING:
            self.progress.tell(f"run.py: {self.jobs[number].log}: the scheduler has put it back into the queue")

    def _write_states(self) -> None:
        """Tell whoever looks what is known, where something has changed."""
        self.states.update(dict.fromkeys(self._numbers(self.waiting), ("not submitted yet", "")))
        if self.states != self.written:
            self.written = dict(self.states)
            self.folder.write_states(self.backend, self.written)

    def _output(self, one: Submission, number: int) -> Path:
        return self.folder.path / one.output(number - one.offset if one.array else number)

    def _said(self, one: Submission, number: int) -> str:
        """What the scheduler has written about a job."""
        try:
            return self._output(one, number).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def run_all(
    request: Request,
    jobs: list[Job],
    folder: Folder,
    queue: Scheduler,
    progress: Progress,
    caught: Collection[int] = (),
) -> list[Job]:
    """Have a scheduler run the jobs and return those that failed; cancel all once a signal is caught.

    A hang-up, as when a connection is lost, leaves them in the queue, where the next run finds them. Raises SubmitError
    and UnreachableError.
    """
    array = Array(request, jobs, folder, queue, progress)
    array.prepare()
    try:
        while array.open and not caught:
            array.step()
            time.sleep(POLL_SECONDS)
    finally:
        if not (queue.lasting and signal.SIGHUP in caught):
            array.close(caught)
            folder.forget_environment()
        progress.close()
    return array.failed
