"""A real Slurm and a real Grid Engine of one node each, in temporary folders, on this machine's loopback, with ports of their own."""

import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
GRID_ENGINE = Path("/usr/lib/gridengine")
GRID_ENGINE_SHARE = Path("/usr/share/gridengine")
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
        stop(self.processes)


@dataclass
class GridEngine:
    """The running Grid Engine: the environment its commands need."""

    environment: dict[str, str]

    def ask(self, *words: str, check: bool = True) -> str:
        """Run one of its commands and return what it prints."""
        ended = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=30)
        assert ended.returncode == 0 or not check, f"{' '.join(words)}: {ended.stderr}{ended.stdout}"
        return ended.stdout


QUEUE = """
qname all.q
hostlist @allhosts
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH
ckpt_list NONE
pe_list NONE
rerun FALSE
slots 4
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode posix_compliant
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:60
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
""" + "".join(
    f"{kind}_{what} INFINITY\n"
    for what in ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")
    for kind in ("s", "h")
)


def stop(processes: list[subprocess.Popen]) -> None:
    for process in reversed(processes):
        process.terminate()
    for process in reversed(processes):
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


@pytest.fixture(scope="session")
def grid_engine(tmp_path_factory):
    """The cluster; tests that need it are skipped where Debian's gridengine packages are not installed."""
    if not all((GRID_ENGINE / name).exists() for name in ("sge_qmaster", "sge_execd", "qsub", "spoolinit")):
        pytest.skip("no Grid Engine: apt-get install gridengine-master gridengine-exec gridengine-client")
    if os.getuid() != 0:
        pytest.skip("sge_execd runs tasks as their users, which takes root")
    folder = tmp_path_factory.mktemp("sge", numbered=True)
    folder.chmod(0o755)
    common = folder / "default/common"
    common.mkdir(parents=True)
    (folder / "util").symlink_to(GRID_ENGINE_SHARE / "util")
    for name in ("bin", "lib", "utilbin"):
        (folder / name).symlink_to(Path("/var/lib/gridengine") / name)
    for name in ("qmaster", "execd", "spooldb"):
        (folder / name).mkdir()
    bootstrap = (GRID_ENGINE_SHARE / "default-bootstrap").read_text().replace("/var/spool/gridengine", str(folder))
    (common / "bootstrap").write_text(bootstrap.replace("sgeadmin", "none    "))
    (common / "act_qmaster").write_text("localhost\n")
    (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
    settings = (GRID_ENGINE_SHARE / "default-configuration").read_text().replace("/var/spool/gridengine", str(folder))
    (folder / "configuration").write_text(re.sub(r"(min_[ug]id) .*", r"\1 0", settings))
    ports = dict(zip(("SGE_QMASTER_PORT", "SGE_EXECD_PORT"), map(str, free_ports(2))))
    cluster = GridEngine({**os.environ, "SGE_ROOT": str(folder), "SGE_CELL": "default", "SGE_ND": "1", **ports})
    cluster.ask(str(GRID_ENGINE / "spoolinit"), "berkeleydb", "libspoolb", f"{folder}/spooldb", "init")
    for what in (
        ("configuration", str(folder / "configuration")),
        ("complexes", str(GRID_ENGINE_SHARE / "util/resources/centry")),
        ("usersets", str(GRID_ENGINE_SHARE / "util/resources/usersets")),
        ("managers", "root"),
    ):
        cluster.ask(str(GRID_ENGINE / "spooldefaults"), *what)
    processes = []

    def begin(name: str) -> None:
        with (folder / f"{name}.out").open("w") as output:
            command = [str(GRID_ENGINE / name)]
            processes.append(
                subprocess.Popen(command, env=cluster.environment, stdout=output, stderr=subprocess.STDOUT)
            )

    try:
        begin("sge_qmaster")
        wait_until(lambda: "root" in cluster.ask("qconf", "-sm", check=False), 30, f"sge_qmaster; see {folder}")
        for option in ("-ah", "-as"):
            cluster.ask("qconf", option, "localhost", check=False)
        begin("sge_execd")
        wait_until(
            lambda: "lx-" in cluster.ask("qhost", "-h", "localhost", check=False), 30, f"sge_execd; see {folder}"
        )
        (folder / "hosts").write_text("group_name @allhosts\nhostlist localhost\n")
        (folder / "queue").write_text(QUEUE.lstrip())
        schedule = re.sub(r"(schedule_interval|flush_\w+_sec) .*", r"\1 1", cluster.ask("qconf", "-ssconf"))
        (folder / "schedule").write_text(schedule.replace("schedule_interval 1", "schedule_interval 0:0:1"))
        for option, name in (("-Ahgrp", "hosts"), ("-Aq", "queue"), ("-Msconf", "schedule")):
            cluster.ask("qconf", option, str(folder / name))
        yield cluster
    finally:
        stop(processes)
