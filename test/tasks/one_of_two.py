"""One process of a distributed training step, run by test_unlabelled.py: OUT, CONFIG, RANK, NUM_PROCESSES."""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import Trainer, TrainerOptions

import espnet2_kd.register  # noqa: F401  (before espnet2)
from espnet2_kd.tasks.asr import KDASRTask

out, config, rank, world = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
args = KDASRTask.get_parser().parse_args(["--config", config, "--output_dir", str(out)])
torch.manual_seed(0)
model = KDASRTask.build_model(args)
option = DistributedOption(
    distributed=True, dist_backend="gloo", dist_init_method=f"file://{out}/meet", dist_world_size=world, dist_rank=rank
)
torch.distributed.init_process_group("gloo", init_method=option.dist_init_method, world_size=world, rank=rank)
reporter = Reporter()
reporter.set_epoch(1)
options = TrainerOptions(
    **{
        **dict.fromkeys(TrainerOptions.__dataclass_fields__),
        "ngpu": 0,
        "accum_grad": 1,
        "grad_clip": 1e9,
        "grad_clip_type": 2.0,
    }
)
with reporter.observe("train") as observed:
    Trainer.train_one_epoch(
        model=torch.nn.parallel.DistributedDataParallel(model),
        iterator=[(["u"], torch.load(out / f"batch.{rank}.pt"))],
        optimizers=[torch.optim.SGD(model.parameters(), lr=1.0)],
        schedulers=[None],
        scaler=None,
        reporter=observed,
        summary_writer=None,
        options=options,
        distributed_option=option,
    )
found = SimpleNamespace(
    state={key: value for key, value in model.state_dict().items() if value.is_floating_point()},
    stats={
        key: reporter.get_value("train", key)
        for key in ("loss", "loss_task", "loss_kd_l2", "loss_kd_ctc", "loss_kd_frames")
    },
)
torch.save(vars(found), out / f"found.{rank}.pt")
torch.distributed.destroy_process_group()  # a process may hang at its exit otherwise
