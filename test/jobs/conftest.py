"""A real Slurm of one node, started in a temporary folder on this machine's loopback, with ports of its own."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PATH = f"{os.environ['PATH']}:/usr/sbin"
CPUS = 4  # told to Slurm, whatever the machine has; its tasks here sleep or are tiny

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
MaxArraySize=6
MinJobAge=300
KillWait=5
OverTimeLimit=0
SlurmdParameters=config_overrides
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
DefMemPerCPU=200
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=usual Nodes={host} Default=YES PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} PriorityTier=10 State=UP
"""


@dataclass
class Slurm:
    """The running cluster: the environment its commands need, and its folder."""

    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen] = field(default_factory=list)

    def ask(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        ended = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=30)
        assert ended.returncode == 0, f"{' '.join(words)}: {ended.stderr}"
        return ended.stdout

    def queue(self) -> list[list[str]]:
        """Return the id, state and name of what waits or runs."""
        return [line.split("|") for line in self.ask("squeue", "-h", "-r", "-o", "%i|%T|%j").splitlines()]

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(condition, seconds: float, what: str):
    """Wait for something true and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The cluster; tests that need it are skipped where Debian's slurm-wlm and munge are not installed."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("slurmd runs tasks as their users, which takes root")
    folder = tmp_path_factory.mktemp("slurm", numbered=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    controller_port, node_port = free_ports(2)
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20)
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            host=host,
            folder=folder,
            user="root",
            controller_port=controller_port,
            node_port=node_port,
            cpus=CPUS,
            memory=min(memory, 8000),
        )
    )
    cluster = Slurm(folder, {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")})
    try:
        munge = [
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"),
            *(f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed", "--num-threads=1"),
        ]
        for command in (munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-c", "-N", host]):
            with (folder / f"{command[0]}.out").open("w") as output:
                cluster.processes.append(
                    subprocess.Popen(command, env=cluster.environment, stdout=output, stderr=subprocess.STDOUT)
                )
            if command[0] == "munged":
                wait_until((folder / "munge.socket").exists, 10, "munged")
        wait_until(lambda: is_idle(cluster), 40, f"a node that takes jobs; see {folder}")
        yield cluster
    finally:
        cluster.stop()


def is_idle(cluster: Slurm) -> bool:
    ended = subprocess.run(
        ["sinfo", "-h", "-o", "%T"], env=cluster.environment, capture_output=True, text=True, check=False
    )
    return ended.returncode == 0 and "idle" in ended.stdout.split()
