"""What driver and tasks of an array tell each other: a folder beside its logs, on the file system that they share.

logdir/decode.3.log         the log of task 3
logdir/q/decode/            mode 0700, since the environment may hold keys
    array.json              commands, logs, directory, threads
    environment.json        the submitting shell's variables; gone when the array has ended
    1.json 2.json ...       status files, written by the tasks
    3.out                   what the scheduler says of task 3
    submit.1.sh             what was given to sbatch or qsub
    submissions.json        which of the scheduler's jobs these are
    states.json             what the driver knows of every task, for espnet2_kd.bin.status
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet2_kd.jobs import record
from espnet2_kd.jobs.job import Job, substitute
from espnet2_kd.jobs.request import Request

ROOT = Path(__file__).resolve().parents[2]
# Variables that belong to a machine or a login, and those by which schedulers tell a job about itself.
OF_THE_MACHINE = re.compile(
    r"(SLURM|SLURMD|SBATCH|SRUN|PBS|SGE|PMI|PMIX|SSH|XDG|TMUX|DBUS)_.*|(JOB|TASK|QUEUE|NSLOTS|NHOSTS|ARC|ENVIRONMENT|REQUEST|RESTARTED"
    r"|PE)(_.*)?|HOST(NAME)?|DISPLAY|XAUTHORITY|TERM|TMPDIR|TMP|TEMP|SHLVL|PWD|OLDPWD|_|CUDA_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL"
    r"|ROCR_VISIBLE_DEVICES|OMP_NUM_THREADS|TMUX|BASH_FUNC_.*"
)


@dataclass
class Submission:
    """One array, or part of one, in a scheduler's hands.

    numbers: the jobs in it; the scheduler's index is the number less `offset`.
    array: whether the scheduler has it as an array; else it is a single job.
    id: the scheduler's.
    script: what it runs.
    """

    numbers: list[int]
    offset: int = 0
    array: bool = True
    id: str = ""
    script: str = ""

    def output(self, index: int | str) -> str:
        """The name of what the scheduler says of a task, by its index, or by the scheduler's word for it."""
        return f"{self.offset}+{index}.out" if self.offset else f"{index}.out"


class Folder:
    """The folder of one array."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def of(request: Request) -> Folder:
        """The folder that belongs to a log's name: logdir/q/decode of logdir/decode.JOB.log."""
        log = Path(request.log)
        words = [word for word in log.name.split(".") if word != request.name]
        stem = ".".join(words[:-1] if len(words) > 1 and words[-1] == "log" else words)
        return Folder(log.parent.resolve() / "q" / stem)

    def make(self) -> None:
        for path in (self.path.parent, self.path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)

    def record(self, number: int) -> Path:
        return self.path / f"{number}.json"

    def write_array(self, request: Request) -> bool:
        """Say what the tasks are; whether the array was the same before, so that its tasks may go on."""
        array = {
            "name": request.name,
            "log": os.path.abspath(request.log),
            "command": request.command,
            "directory": os.getcwd(),
            "num_threads": request.number("num_threads", 1) or 1,
            "rotate": "rotate" in request.options,
            "save": "save_seconds" in request.options,
            "first": request.first,
            "last": request.last,
        }
        path, text = self.path / "array.json", json.dumps(array, indent=1)
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        if not same:
            # What an earlier array has left must not be taken for this one's.
            for old in self.path.glob("[0-9]*.json"):
                old.unlink()
        record.write_whole(path, text)
        return same

    def read_array(self) -> dict:
        return json.loads((self.path / "array.json").read_text(encoding="utf-8"))

    def job(self, array: Mapping, number: int) -> Job:
        """One task of the array, as its node sees it."""
        argv = [substitute(word, array["name"], number) for word in array["command"]]
        return Job(number, Path(substitute(array["log"], array["name"], number)), argv)

    def write_environment(self) -> None:
        """Keep the shell's variables for the tasks: what schedulers hand on depends on their settings."""
        kept = {name: value for name, value in os.environ.items() if not OF_THE_MACHINE.fullmatch(name)}
        record.write_whole(self.path / "environment.json", json.dumps(kept))

    def read_environment(self) -> dict[str, str]:
        try:
            return json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def forget_environment(self) -> None:
        (self.path / "environment.json").unlink(missing_ok=True)

    def write_script(self, number: str, *options: str) -> Path:
        """A script that runs a task; `number` is a shell word, such as a sum with the scheduler's index."""
        taken = [int(path.name.split(".")[1]) for path in self.path.glob("submit.*.sh")]
        path = self.path / f"submit.{max(taken, default=0) + 1}.sh"
        words = shlex.join([sys.executable, "-m", "espnet2_kd.jobs.task", *options, str(self.path)])
        record.write_whole(
            path,
            "#!/usr/bin/env bash\n"
            "trap '' USR1 USR2  # a notice that comes before the task can take it must not end it\n"
            f"export PYTHONPATH={shlex.quote(str(ROOT))}\nexec {words} {number}\n",
        )
        path.chmod(0o700)
        return path

    def remove_scripts(self) -> None:
        for path in self.path.glob("submit.*.sh"):
            path.unlink()

    def write_submissions(self, backend: str, submissions: list[Submission]) -> None:
        text = json.dumps({"backend": backend, "submissions": [asdict(one) for one in submissions]}, indent=1)
        record.write_whole(self.path / "submissions.json", text)

    def read_submissions(self, backend: str) -> list[Submission]:
        """What an earlier driver has submitted through this backend."""
        try:
            found = json.loads((self.path / "submissions.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return []
        return [Submission(**one) for one in found["submissions"]] if found["backend"] == backend else []

    def write_states(self, backend: str, states: Mapping[int, tuple[str, str]]) -> None:
        """Write down the state of every job, and its reason or other detail."""
        text = json.dumps({"backend": backend, "states": states})
        record.write_whole(self.path / "states.json", text)
