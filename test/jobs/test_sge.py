"""What Grid Engine's commands say is read; test/jobs/cluster has a real one."""

import pytest

from espnet2_kd.jobs import scheduler
from espnet2_kd.jobs.folder import Submission
from espnet2_kd.jobs.sge import read_qacct, read_qstat

# As Grid Engine 8.1.9 has answered; `category` and `failed` are all it says about why a task was killed.
ENTRY = """==============================================================
qname        all.q
jobname      kd_x
jobnumber    5
taskid       {taskid}
failed       {failed}
exit_status  {status}
maxvmem      {maxvmem}
category     {category}
"""


@pytest.mark.parametrize(
    ("failed", "status", "maxvmem", "category", "state"),
    [
        ("0    ", "0                   ", "17.027MB", "NONE", scheduler.ENDED),
        ("0    ", "1                   ", "17.027MB", "-l h_vmem=100M", scheduler.FAILED),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137                  (Killed)", "18.816MB", "-l h_rt=4", scheduler.TIME_LIMIT),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137                  (Killed)", "1.999GB", "-l h_rt=60,h_vmem=2G", scheduler.OUT_OF_MEMORY),
        ("100 : assumedly after job", "137                  (Killed)", "18.789MB", "NONE", "killed, by qdel or for its memory"),
        ("11  : before job", "0                   ", "0.000B", "NONE", scheduler.FAILED),
    ],
)  # fmt: skip
def test_the_accounts_are_read(failed, status, maxvmem, category, state):
    text = ENTRY.format(taskid=2, failed=failed, status=status, maxvmem=maxvmem, category=category)
    found = read_qacct(text, Submission([2, 3], id="5"))
    assert {number: condition.state for number, condition in found.items()} == {2: state}
    alone = read_qacct(text.replace("taskid       2", "taskid       undefined"), Submission([1], array=False, id="5"))
    assert alone[1].state == state


def test_the_queue_is_read():
    text = """job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
      5 0.50000 kd_del     root         r     11/27/2026 14:46:41 all.q@localhost                    1 1
      5 0.50000 kd_del     root         qw    11/27/2026 14:46:41                                    1 2
      5 0.50000 kd_del     root         Eqw   11/27/2026 14:46:41                                    1 3
      6 0.50000 kd_del     root         qw    11/27/2026 14:46:41                                    1 4
"""
    found = read_qstat(text, [Submission([1, 2, 3, 4], id="5")])
    assert {number: condition.state for number, condition in found.items()} == {
        1: scheduler.RUNNING,
        2: scheduler.PENDING,
        3: scheduler.FAILED,
    }
