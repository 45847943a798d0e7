"""What has become of a task, from its status file and from the scheduler, neither of which is right alone.

A status file may come late through a shared file system, and a task that was killed leaves none. A scheduler forgets
what has ended, tells late, and knows of no saved state.
"""

from __future__ import annotations

from dataclasses import dataclass

from espnet2_kd.jobs import log, scheduler
from espnet2_kd.jobs.job import INTERRUPTED
from espnet2_kd.jobs.record import Record
from espnet2_kd.jobs.scheduler import Condition

DONE, FAILED, AGAIN = "done", "failed", "to be run again"
FINAL = (DONE, FAILED, AGAIN)
PLAIN = (None, scheduler.RUNNING, scheduler.ENDED, scheduler.FAILED)  # states that name no reason
SETTLE_SECONDS = 4.0  # for a status file after the scheduler's word that a task has failed
LAG_SECONDS = 60.0  # for a status file after the scheduler's word that a task has ended well, and the other way round
LOST_SECONDS = 30.0  # for a job that the scheduler does not know, as just after its submission


@dataclass(frozen=True)
class Verdict:
    """state: `pending`, `running`, `done`, `failed` or `to be run again`; reason: of the last two, or of the wait."""

    state: str
    reason: str = ""


def judge(record: Record, condition: Condition | None, waited: float, trace: str | None = None) -> Verdict:
    """Decide what has become of a task.

    condition: what the scheduler says, None where it does not know the task.
    waited: seconds since one of the two said that it is over, or since the scheduler does not know it.
    trace: the reason that the scheduler has left in the task's output.
    """
    state = condition.state if condition else None
    if record.state == "ended" and record.returncode == 0:
        return Verdict(DONE)
    if state == scheduler.PENDING:
        again = "started before, waiting again" if record.attempt else condition.detail
        return Verdict(scheduler.PENDING, again)
    if record.state == "ended":
        # How the scheduler ended it, if it did, says more than the signal; and it may be about to start it again.
        if (condition is None or not condition.is_over) and waited < (LAG_SECONDS if condition else SETTLE_SECONDS):
            return Verdict(scheduler.RUNNING, "ending")
        return _ended(record, state, trace)
    if condition is not None and not condition.is_over:
        return Verdict(scheduler.RUNNING)
    if condition is None:
        if waited < LOST_SECONDS:
            return Verdict(scheduler.RUNNING if record.state == "running" else scheduler.PENDING)
        return Verdict(FAILED, "the scheduler does not know it any more, and it has not said how it ended")
    if waited < (LAG_SECONDS if state == scheduler.ENDED and trace is None else SETTLE_SECONDS):
        return Verdict(scheduler.RUNNING, "ending")
    reason = trace if state in PLAIN else state
    if reason is None:
        where = f" on {record.host}" if record.host else ""
        return Verdict(FAILED, f"ended{where} without saying how{f': {condition.detail}' if condition.detail else ''}")
    return Verdict(FAILED, _with_remedy(reason))


def _ended(record: Record, state: str | None, trace: str | None) -> Verdict:
    named = trace if state in PLAIN else state
    if record.returncode == INTERRUPTED and named != scheduler.CANCELLED:
        return Verdict(AGAIN, named or "interrupted")
    killed = record.returncode is not None and (record.returncode < 0 or record.returncode > 128)
    # What failed by itself may have been cancelled, or gone over its time, just then.
    if named is not None and (killed or record.returncode == INTERRUPTED or named == scheduler.OUT_OF_MEMORY):
        return Verdict(FAILED, _with_remedy(named))
    return Verdict(FAILED, log.reason(record.returncode or 0))


def _with_remedy(reason: str) -> str:
    remedy = scheduler.REMEDIES.get(reason)
    return f"{reason} ({remedy})" if remedy else reason
