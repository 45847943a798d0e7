"""PBS: what is given to qsub, and what qstat's answers mean. There is no PBS here: the answers have the documented form."""

import json
import os

import pytest

from espnet2_kd.jobs import conf, scheduler
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.pbs import Pbs, read_qstat
from espnet2_kd.jobs.request import parse


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"job_state": "Q", "comment": "Not Running: Insufficient amount of resource: ncpus"}, scheduler.PENDING),
        ({"job_state": "R"}, scheduler.RUNNING),
        ({"job_state": "F", "Exit_status": 0, "comment": "Job run at ... and finished"}, scheduler.ENDED),
        ({"job_state": "X", "Exit_status": 0}, scheduler.ENDED),
        ({"job_state": "F", "Exit_status": 7}, scheduler.FAILED),
        ({"job_state": "F", "Exit_status": -29}, scheduler.TIME_LIMIT),
        ({"job_state": "F", "Exit_status": -27}, scheduler.OUT_OF_MEMORY),
        ({"job_state": "F", "Exit_status": 271, "comment": "Job was terminated"}, scheduler.CANCELLED),
        ({"job_state": "F", "Exit_status": 271, "comment": "job exceeded walltime"}, scheduler.TIME_LIMIT),
    ],
)
def test_answers_are_read(values, state):
    answer = json.dumps({"Jobs": {"12[].head": {"job_state": "B"}, "12[3].head": values, "12[9].head": values}})
    assert {n: c.state for n, c in read_qstat(answer, Submission([2, 3], id="12[].head")).items()} == {3: state}
    alone = read_qstat(json.dumps({"Jobs": {"13.head": values}}), Submission([5], array=False, id="13.head"))
    assert alone[5].state == state


def test_what_is_submitted(tmp_path, monkeypatch):
    """A stretch is an array, a job alone is none, which PBS would refuse; indices are the jobs' numbers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    for name, answer in (("qsub", '"$@" >>calls; echo 12[].head'), ("qstat", "    max_array_size = 3")):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\necho {answer}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    words = "--backend pbs --mem 4G --num-threads 2 --max-jobs-run 2 JOB=1:9 log/x.JOB.log true"
    request = parse(words.split())
    folder = Folder.of(request)
    folder.make()
    queue = Pbs(request, folder, conf.read(conf.find("pbs", None)))
    batches = queue.batches([1, 2, 3, 4, 6, 8, 9])
    assert [(one.numbers, one.array) for one in batches] == [
        ([1, 2, 3], True),
        ([4], False),
        ([6], False),
        ([8, 9], True),
    ]
    for one in batches:
        queue.submit(one)
        assert one.id == "12[].head"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert all("-l mem=4G -l ncpus=2" in call for call in calls)
    assert [("-J 1-3%2" in calls[0]), ("-J" in calls[1]), ("-J 8-9%2" in calls[3])] == [True, False, True]
    scripts = [open(call.split()[-1]).read() for call in calls]
    assert scripts[0].endswith('/log/q/x "${PBS_ARRAY_INDEX}"\n') and scripts[1].endswith("/log/q/x 4\n")
