"""Processes of a training find each other wherever Slurm puts them."""

from types import SimpleNamespace

import pytest

from espnet2_kd.tasks.meeting_point import find_meeting_point, first_node


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("localhost", "localhost"),
        ("node1,node2", "node1"),
        ("node[1-10],other", "node1"),
        ("gpu-a[03-05,9],gpu-b1", "gpu-a03"),
        ("gpu-a-7,gpu-b1", "gpu-a-7"),
        ("c[7,9]", "c7"),
        ("rack1-n[12-13].local", "rack1-n12.local"),
    ],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


def found(**options):
    args = SimpleNamespace(
        **{
            **{"distributed": True, "dist_rank": None, "dist_launcher": None, "ngpu": 0, "dist_backend": "nccl"},
            **{"dist_init_method": "env://", "dist_master_addr": None, "dist_master_port": None},
            **options,
        }
    )
    find_meeting_point(args)
    return args


def test_all_processes_of_a_step_agree_and_other_jobs_meet_elsewhere(monkeypatch):
    step = {"SLURM_STEP_NODELIST": "gpu-a[1-2]", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "2"}
    for name, value in {**step, "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    ports = set()
    for job in range(5):
        monkeypatch.setenv("SLURM_JOB_ID", str(4321 + job))
        for rank in range(2):
            monkeypatch.setenv("SLURM_PROCID", str(rank))
            args = found(dist_launcher="slurm", ngpu=1)
            assert (args.dist_rank, args.dist_master_addr, args.dist_backend) == (rank, "gpu-a1", "nccl")
            ports.add(args.dist_master_port)
    assert len(ports) == 5 and all(1024 < port < 32768 for port in ports)
    args = found(dist_launcher="slurm", dist_master_addr="here", dist_master_port=5)
    assert (args.dist_master_addr, args.dist_master_port) == ("here", 5)


def test_torchrun_and_a_process_alone(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    args = found()
    assert (args.dist_rank, args.dist_backend, args.dist_master_addr) == (3, "gloo", None)
    args = found(distributed=False)
    assert (args.dist_rank, args.dist_backend) == (None, "nccl")
