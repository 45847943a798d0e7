"""What has become of a task, for what its status file and its scheduler may say, together and against each other."""

import pytest

from espnet2_kd.jobs import scheduler
from espnet2_kd.jobs.record import Record, read, write
from espnet2_kd.jobs.scheduler import Condition, trace
from espnet2_kd.jobs.verdict import judge

SUBMITTED, RUNNING = Record("submitted"), Record("running", host="n1", attempt=1)


def ended(code):
    return Record("ended", host="n1", attempt=1, returncode=code)


@pytest.mark.parametrize(
    ("record", "state", "waited", "expected"),
    [
        (SUBMITTED, "pending", 999, ("pending", "why")),
        (RUNNING, "running", 999, ("running", "")),
        # started, and put back into the queue after a preemption
        (RUNNING, "pending", 999, ("pending", "started before, waiting again")),
        (ended(85), "pending", 999, ("pending", "started before, waiting again")),
        # the status file knows first, or better
        (ended(0), "running", 0, ("done", "")),
        (ended(0), None, 999, ("done", "")),
        (ended(0), "cancelled", 0, ("done", "")),
        (ended(7), "running", 1, ("running", "ending")),
        (ended(7), "failed", 0, ("failed", "exit code 7")),
        (ended(7), None, 5, ("failed", "exit code 7")),
        (ended(7), "running", 61, ("failed", "exit code 7")),
        # the scheduler knows why
        (ended(-9), "out of memory", 0, ("failed", "out of memory (give it more with --mem)")),
        (ended(-9), "failed", 0, ("failed", "killed by SIGKILL (out of memory?)")),
        (ended(-15), "over its time limit", 0, ("failed", "over its time limit (give it more with --time)")),
        (ended(-15), "cancelled", 0, ("failed", "cancelled (somebody took it out of the queue)")),
        (RUNNING, "its node failed", 5, ("failed", "its node failed")),
        (RUNNING, "preempted", 5, ("failed", "preempted")),
        # a training that has saved its state
        (ended(85), "over its time limit", 0, ("to be run again", "over its time limit")),
        (ended(85), "preempted", 0, ("to be run again", "preempted")),
        (ended(85), "failed", 0, ("to be run again", "interrupted")),
        (ended(85), "cancelled", 0, ("failed", "cancelled (somebody took it out of the queue)")),
        # neither has said all yet
        (RUNNING, "out of memory", 1, ("running", "ending")),
        (RUNNING, "ended", 59, ("running", "ending")),
        (RUNNING, "ended", 61, ("failed", "ended on n1 without saying how: why")),
        (RUNNING, "failed", 5, ("failed", "ended on n1 without saying how: why")),
        (SUBMITTED, None, 29, ("pending", "")),
        (RUNNING, None, 31, ("failed", "the scheduler does not know it any more, and it has not said how it ended")),
    ],
)
def test_verdicts(record, state, waited, expected):
    condition = None if state is None else Condition(state, "why")
    found = judge(record, condition, waited)
    assert (found.state, found.reason) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=8.batch.", scheduler.OUT_OF_MEMORY),
        ("slurmstepd-vm: error: Exceeded job memory limit", scheduler.OUT_OF_MEMORY),
        ("slurmstepd: error: *** JOB 10 ON vm CANCELLED AT 2026-11-27T14:27:56 DUE TO TIME LIMIT ***", scheduler.TIME_LIMIT),
        ("slurmstepd-vm: error: *** JOB 10 ON vm CANCELLED AT 2026-11-27T14:27:56 DUE TO PREEMPTION ***", scheduler.PREEMPTED),
        ("=>> PBS: job killed: walltime 31 exceeded limit 30", scheduler.TIME_LIMIT),
        ("=>> PBS: job killed: mem 120000kb exceeded limit 102400kb", scheduler.OUT_OF_MEMORY),
        ("room for memory", None),
    ],
)  # fmt: skip
def test_what_schedulers_leave_in_a_tasks_output(text, reason):
    assert trace(f"hello\n{text}\n") == reason


def test_a_status_file_is_the_owners_alone_and_never_seen_in_part(tmp_path):
    path = tmp_path / "1.json"
    assert read(path) is None
    write(path, ended(-9))
    assert read(path) == ended(-9)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_ino
    write(path, ended(0))
    assert path.stat().st_ino != before  # another file that took its place
    assert [p.name for p in tmp_path.iterdir()] == ["1.json"]
    path.write_text('{"state": "run')
    assert read(path) is None
