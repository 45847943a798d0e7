"""Run a command, or an array of them, here or on a cluster; one log file per job in Kaldi's format.

    run.py [--backend slurm] [--mem 4G] [--gpu 1] [--num-threads 2] JOB=1:32 exp/log/decode.JOB.log command --part split/JOB ...

The command is executed as it stands, without a shell: a pipeline is written `bash -c '...'`. JOB is replaced by the
job's number where neither a letter nor a digit touches it: in `text.JOB` and `part_JOB`, not in `JOBS`.

  --backend NAME      local (this machine, the default), slurm, sge, pbs, or ssh
  --driver COMMAND    a driver of Kaldi's kind, such as your own queue.pl, which is given the options too
  --config FILE       how options become the scheduler's; the default is conf/<backend>.conf, or else the template's
  --mem 4G, --time 4:00:00, --gpu N, --num-nodes N, --name NAME, and what the conf file has lines for
  --num-threads N     threads per job (OMP_NUM_THREADS)
  --max-jobs-run N    jobs at a time; on this machine as many as the cores allow, unless it is given
  --save-seconds N    SIGUSR1 to the command N seconds before its time is up (Slurm); with exit code 85 it is run again
  --pick WHICH        all, or failed and incomplete (separated by a comma)
  --follow REGEX      also show the log lines that match
  --rotate            keep an earlier log as LOG.1, LOG.2, ...
"""

from __future__ import annotations

import os
import signal
import sys

from espnet2_kd.jobs import cluster, conf, local, process
from espnet2_kd.jobs.folder import Folder
from espnet2_kd.jobs.job import Job
from espnet2_kd.jobs.log import end_of, said_last
from espnet2_kd.jobs.pbs import Pbs
from espnet2_kd.jobs.plugged import Plugged
from espnet2_kd.jobs.progress import Progress
from espnet2_kd.jobs.request import Request, UsageError, parse
from espnet2_kd.jobs.scheduler import Scheduler, SubmitError, UnreachableError
from espnet2_kd.jobs.sge import Sge
from espnet2_kd.jobs.slurm import Slurm
from espnet2_kd.jobs.ssh import Ssh

SCHEDULERS = {"slurm": Slurm, "sge": Sge, "pbs": Pbs, "ssh": Ssh}
HELP = ("-h", "--help")
RECIPE = "KD_RUN"  # set by recipes: see utils/warden.py, which may be killed together with its recipe


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in HELP:
        print(__doc__)
        return 0
    # Only noted here: an exception could fall between a job's start and its entry among those to be ended.
    caught: list[int] = []
    parent = os.getppid()

    def catch(number: int, frame: object) -> None:
        # A second one means that somebody has lost patience; of a killed parent Linux and a recipe's warden tell both.
        if not caught or os.getppid() == parent:
            caught.append(number)

    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, catch)
    if RECIPE in os.environ:  # by hand it may outlive its shell, under nohup
        process.end_with_parent()
    try:
        request = parse(argv)
        jobs = request.picked()
        failed = _run(request, jobs, caught) if jobs else []
    except UsageError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except (SubmitError, UnreachableError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    if caught:
        return 128 + caught[0]
    if not failed:
        return 0
    # The next line is the one that users' scripts look for, so it keeps the name of Kaldi's driver.
    if request.num_jobs == 1:
        print(f"run.pl: job failed, log is in {request.log_pattern}", file=sys.stderr)
    else:
        print(f"run.pl: {len(failed)} / {request.num_jobs} failed, log is in {request.log_pattern}", file=sys.stderr)
    for job in sorted(failed, key=lambda job: job.number):
        print(f"  {job.log}: {job.reason}", file=sys.stderr)
        if job.log.is_file() and (last := said_last(end_of(job.log).replace(job.header, ""))):
            print(f"    {last}", file=sys.stderr)
    if request.num_jobs > 1:
        print("  `--pick failed,incomplete` runs only these again.", file=sys.stderr)
    return 1


def _run(request: Request, jobs: list[Job], caught: list[int]) -> list[Job]:
    progress = Progress(len(jobs), request.options.get("follow"))
    if request.backend == "local" and "driver" not in request.options:
        return local.run_all(request, jobs, progress, caught)
    folder = Folder.of(request)
    return cluster.run_all(request, jobs, folder, _scheduler(request, folder), progress, caught)


def _scheduler(request: Request, folder: Folder) -> Scheduler:
    if "driver" in request.options:
        return Plugged(request, folder)
    path = conf.find(request.backend, request.options.get("config"))
    return SCHEDULERS[request.backend](request, folder, conf.read(path))
