"""The driver with schedulers that refuse, are busy, do not answer, or run what never gets any further."""

import pytest

from espnet2_kd.jobs import cluster, record, scheduler
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.progress import Progress
from espnet2_kd.jobs.record import Record
from espnet2_kd.jobs.request import parse
from espnet2_kd.jobs.scheduler import Condition, SubmitError, UnreachableError


class Pretended:
    """A scheduler whose tasks have ended when it is asked about them for the second time.

    refusals: what it answers to the first submissions, None for taking one.
    silent: how often it does not answer when it is asked about tasks.
    """

    lasting = True

    def __init__(self, folder, refusals=(), silent=0, returncode=0):
        self.folder, self.refusals, self.silent, self.returncode = folder, list(refusals), silent, returncode
        self.submitted, self.asked, self.cancelled = [], {}, []

    def batches(self, numbers):
        return [Submission([number]) for number in numbers]

    def submit(self, submission):
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal:
            raise SubmitError(refusal)
        submission.id = str(len(self.submitted))
        self.submitted.append(submission.numbers[0])

    def conditions(self, submissions):
        if self.silent:
            self.silent -= 1
            raise UnreachableError("squeue: no answer")
        found = {}
        for one in submissions:
            self.asked[one.id] = self.asked.get(one.id, 0) + 1
            over = self.asked[one.id] > 1
            for number in one.numbers:
                if over:
                    ended = Record("ended", attempt=1, returncode=self.returncode)
                    record.write(self.folder.record(number), ended)
                found[number] = Condition(scheduler.ENDED if over else scheduler.RUNNING)
        return found

    def cancel(self, submissions):
        self.cancelled += [one.id for one in submissions]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs an array of two through such a scheduler."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(cluster, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(cluster, "ASK_SECONDS", (0.001, 0.002))

    def call(caught=(), **behaviour):
        request = parse(["--backend", "slurm", "JOB=1:2", "log/x.JOB.log", "true"])
        folder = Folder.of(request)
        queue = Pretended(folder, **behaviour)
        jobs = request.jobs()
        try:
            failed = cluster.run_all(request, jobs, folder, queue, Progress(2, None), caught)
        finally:
            assert not (folder.path / "environment.json").exists()
        return queue, failed, capsys.readouterr().err.splitlines()

    return call


def test_what_does_not_fit_into_the_queue_waits_for_the_rest(run):
    full = "sbatch: error: AssocMaxSubmitJobLimit"
    queue, failed, said = run(refusals=[None, full, full, full])
    assert (queue.submitted, failed, said) == ([1, 2], [], [])


def test_a_busy_scheduler_is_asked_again(run):
    queue, failed, _ = run(
        refusals=["sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"] * 3
    )
    assert (queue.submitted, failed) == ([1, 2], [])
    with pytest.raises(SubmitError, match="timed out"):
        run(refusals=["Socket timed out"] * 20)


def test_a_refusal_ends_the_run(run):
    with pytest.raises(SubmitError, match="Invalid partition"):
        run(refusals=["sbatch: error: Invalid partition name specified"])


def test_a_scheduler_that_does_not_answer_is_waited_for(run):
    _, failed, said = run(silent=5)
    assert (failed, said) == ([], ["run.py: squeue: no answer: waiting until it answers"])


def test_a_task_that_asks_to_go_on_for_ever_has_failed(run):
    queue, failed, said = run(returncode=85)
    assert len(queue.submitted) == 2 * cluster.QUICK_TIMES
    assert {job.reason for job in failed} == {"asked 5 times to be run again, and did not get any further"}
    assert said.count("run.py: log/x.1.log: interrupted, its state is saved: submitted again") == 4


def test_nothing_is_submitted_once_a_signal_was_caught(run):
    queue, _, _ = run(caught=[2])
    assert queue.submitted == queue.cancelled == []
