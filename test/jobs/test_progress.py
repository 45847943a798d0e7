"""How far an array of jobs is: a line now and then in a log, with the time that is left."""

from espnet2_kd.jobs import progress
from espnet2_kd.jobs.progress import Progress


def test_lines_of_a_log(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress(8, None)
    for seconds, done in ((10, 1), (25, 2), (29, 3), (31, 3), (40, 4), (62, 5), (7000, 6), (8000, 8)):
        now[0], shown.done = seconds, done
        shown.draw()
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "run.py: 3/8 jobs, 52 s left",
        "run.py: 5/8 jobs, 37 s left",
        "run.py: 6/8 jobs, 38 min 53 s left",
        "run.py: 8/8 jobs",
    ]


def test_a_single_job_has_no_lines_of_its_own(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress(1, None)
    now[0], shown.done = 100, 1
    shown.draw()
    assert capsys.readouterr().err == ""
