"""Where the processes of a training find each other, as `srun` or `torchrun` started them."""

from __future__ import annotations

import argparse
import os
import re

from espnet2.train.distributed_utils import get_rank

# Below what Linux gives to those who ask for any port.
FIRST_PORT, NUM_PORTS = 20000, 12000


def find_meeting_point(args: argparse.Namespace) -> None:
    """Fill in what ESPnet2's distributed options leave open.

    Its rank, since only rank 0 writes; gloo instead of nccl where there is no GPU; and under Slurm the first node's name and a
    port, both of which follow from the job, so that all its processes agree. `torchrun` sets the environment that ESPnet2 reads.
    Nothing is logged: the log is set up later.
    """
    if not args.distributed:
        return
    args.dist_rank = get_rank(args.dist_rank, args.dist_launcher)
    if args.ngpu == 0 and args.dist_backend == "nccl":
        args.dist_backend = "gloo"
    if args.dist_launcher != "slurm" or args.dist_init_method != "env://":
        return
    if args.dist_master_addr is None:
        # ESPnet2's own reading of the list ends at the first hyphen, which names of nodes may have.
        args.dist_master_addr = first_node(os.environ["SLURM_STEP_NODELIST"])
    if args.dist_master_port is None and "MASTER_PORT" not in os.environ:
        job = int(os.environ["SLURM_JOB_ID"]) * 16 + int(os.environ.get("SLURM_STEP_ID", "0")) % 16
        args.dist_master_port = FIRST_PORT + job % NUM_PORTS


def first_node(nodes: str) -> str:
    """`gpu-a03` of Slurm's list `gpu-a[03-05,9],gpu-b1`."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    if match is None:
        raise ValueError(f"{nodes!r}: no list of nodes")
    return "".join(part or "" for part in match.groups())
