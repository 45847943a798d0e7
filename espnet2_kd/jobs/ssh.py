"""Machines reached by ssh that share a file system, as Kaldi's `ssh.pl` uses them."""

from __future__ import annotations

import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from espnet2_kd.jobs import process, scheduler
from espnet2_kd.jobs.conf import Conf
from espnet2_kd.jobs.folder import Folder, Submission
from espnet2_kd.jobs.request import Request, UsageError
from espnet2_kd.jobs.scheduler import Condition

MACHINES = Path(".queue/machines")
LOST = 255  # ssh's own exit code, where it has no connection


def read_machines(path: Path = MACHINES) -> dict[str, int]:
    """Read lines of `HOST [JOBS AT A TIME]`. Raises UsageError."""
    machines: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UsageError(
            f"no file {path.absolute()}: list the machines for ssh there, `HOST [JOBS AT A TIME]` a line"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.absolute()}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        host, *slots = line.partition("#")[0].split() or [""]
        if not host:
            continue
        if len(slots) > 1 or not all(slot.isdigit() and int(slot) for slot in slots) or host.startswith("-"):
            raise UsageError(f"{path}:{number}: {line!r}: expected `HOST [JOBS AT A TIME]`")
        machines[host] = int(slots[0]) if slots else 1
    if not machines:
        raise UsageError(f"{path.absolute()}: no machine in it")
    return machines


class Ssh:
    """Tasks on machines, so many at a time on each; they end when their connection does."""

    lasting = False

    def __init__(self, request: Request, folder: Folder, conf: Conf) -> None:
        self.request, self.folder = request, folder
        self.command = conf.words(request.resources)
        self.machines = read_machines()
        self.waiting: list[int] = []
        self.running: dict[int, tuple[str, subprocess.Popen]] = {}
        self.script: Path | None = None

    def batches(self, numbers: Sequence[int]) -> list[Submission]:
        return [Submission(list(numbers))]

    def submit(self, submission: Submission) -> None:
        submission.id = ",".join(self.machines)
        self.script = self.folder.write_script('"$1"', "--tied")
        self.waiting += submission.numbers
        self._start()

    def conditions(self, submissions: Sequence[Submission]) -> dict[int, Condition]:
        self._start()
        found = {}
        for number, (host, ssh) in self.running.items():
            code = ssh.poll()
            if code is None:
                found[number] = Condition(scheduler.RUNNING)
            else:
                lost = code == LOST
                found[number] = Condition(
                    scheduler.NODE_FAILURE if lost else scheduler.ENDED, f"{host}: {'no connection' if lost else code}"
                )
        return {**found, **dict.fromkeys(self.waiting, Condition(scheduler.PENDING, "every machine has its share"))}

    def cancel(self, submissions: Sequence[Submission]) -> None:
        self.waiting.clear()
        for _, ssh in self.running.values():
            if ssh.stdin:
                ssh.stdin.close()  # the task sees it, and ends its command
        for _, ssh in self.running.values():
            try:
                ssh.wait(process.GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                ssh.kill()
                ssh.wait()

    def _start(self) -> None:
        """Give waiting tasks to machines that have room."""
        busy = Counter(host for host, ssh in self.running.values() if ssh.poll() is None)
        limit = self.request.number("max_jobs_run") or sum(self.machines.values())
        while self.waiting and busy.total() < limit:
            room = [host for host, slots in self.machines.items() if busy[host] < slots]
            if not room:
                return
            host = min(room, key=lambda name: busy[name] / self.machines[name])
            number = self.waiting.pop(0)
            with (self.folder.path / f"{number}.out").open("wb") as output:
                ssh = subprocess.Popen(
                    [*self.command, host, f"bash {shlex.quote(str(self.script))} {number}"],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=process.end_with_parent,
                )
            self.running[number] = (host, ssh)
            busy[host] += 1
