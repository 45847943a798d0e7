"""A driver of Kaldi's kind, such as a user's own `queue.pl`, that submits our tasks in its way."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from espnet2_kd.jobs import process, scheduler
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.request import Request, UsageError, driver_words
from espnet2_kd.jobs.scheduler import Condition, SubmitError

PASSED_ON = ("config", "max_jobs_run")  # beside resources, which are


class Plugged:
    """Processes of the driver, one for each stretch of the array; each waits for its tasks, as Kaldi's drivers do.

    The driver gets no command of ours to quote or to replace JOB in, only a script and the task's number.
    """

    lasting = False

    def __init__(self, request: Request, folder: Folder) -> None:
        self.request, self.folder = request, folder
        self.words = driver_words(request)
        for name, value in {
            **{n: request.options[n] for n in PASSED_ON if n in request.options},
            **request.resources,
        }.items():
            self.words += [f"--{name.replace('_', '-')}", value]
        name = request.name or "JOB"
        if name in str(folder.path):
            raise UsageError(f"{folder.path}: {self.words[0]} would replace {name} in it; choose another directory")
        self.running: list[tuple[list[int], subprocess.Popen]] = []

    def batches(self, numbers: Sequence[int]) -> list[Submission]:
        if self.request.name is None:
            return [Submission([number], array=False) for number in numbers]
        return [Submission(run) for run in scheduler.stretches(numbers, len(numbers))]

    def submit(self, submission: Submission) -> None:
        name, numbers = self.request.name or "JOB", submission.numbers
        task = name if submission.array else str(numbers[0])
        script = self.folder.write_script('"$1"', "--inherit")
        words = [*self.words, *([f"{name}={numbers[0]}:{numbers[-1]}"] if submission.array else []), self.request.log]
        for number in numbers:
            self.folder.job(self.folder.read_array(), number).log.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.path / submission.output(numbers[0])).open("wb") as output:
            try:
                driver = subprocess.Popen(
                    [*words, "bash", str(script), task],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=process.end_with_parent,
                )
            except OSError as error:
                raise SubmitError(f"{self.words[0]}: {error.strerror}") from error
        submission.id = str(driver.pid)
        self.running.append((list(numbers), driver))

    def conditions(self, submissions: Sequence[Submission]) -> dict[int, Condition]:
        found = {}
        for numbers, driver in self.running:
            code = driver.poll()
            state = (
                Condition(scheduler.RUNNING)
                if code is None
                else Condition(scheduler.ENDED, f"{self.words[0]}: status {code}")
            )
            found.update(dict.fromkeys(numbers, state))
        return found

    def cancel(self, submissions: Sequence[Submission]) -> None:
        process.end([driver for _, driver in self.running])
