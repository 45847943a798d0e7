"""One process of a training, run by test_two_processes.py: OUT CONFIG [AT]; says which batches it saw, and in the AT-th gets SIGUSR1."""

import json
import os
import signal
import sys
from pathlib import Path

from espnet2_kd.bin.training import run_task
from espnet2_kd.tasks.asr import KDASRTask

out, config, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0
seen = out / f"seen.{os.environ.get('RANK', '0')}"
count = 0


class Seen(KDASRTask):
    @classmethod
    def build_model(cls, args):
        model = KDASRTask.build_model(args)

        def see(module, _, batch):
            global count
            if not module.training:
                return
            count += 1
            with seen.open("a") as stream:
                stream.write(json.dumps([sorted(batch["utt_id"]), sorted(batch.get("unlabelled_utt_id", []))]) + "\n")
            if count == at:
                os.kill(os.getpid(), signal.SIGUSR1)

        model.register_forward_pre_hook(see, with_kwargs=True)
        return model


run_task(Seen, ["--config", config, "--output_dir", str(out), "--resume", "true"])
