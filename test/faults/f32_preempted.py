"""F32: a training gets SIGTERM, as before a preemption."""

import signal
import time

from finding import Finding
from recipe import Recipe, wait_for
from weights import same_weights

STAGE = "5 distill"
LONGER = ("--num_iters_per_epoch", "40", "--scheduler_conf", "total_steps=80")


def check(recipe: Recipe) -> Finding:
    straight = recipe.train("exp/straight", *LONGER)
    assert straight.status == 0, straight.output[-3000:]
    statuses, messages = [], []
    for name, sign in (("terminated", signal.SIGTERM), ("warned", signal.SIGUSR1)):
        began = time.monotonic()
        source = '. ../../TEMPLATE/kd1/path.sh; exec "$@"'
        process = recipe.start("bash", "-c", source, "train", *recipe.train_command(f"exp/{name}", *LONGER))
        wait_for(lambda: "2/2epoch started" in (recipe.path / "said").read_text(errors="replace"), process)
        time.sleep(0.3)
        process.send_signal(sign)
        ended = recipe.finish(process, began)
        assert ended.status != 0, ended.output[-3000:]
        statuses.append(ended.status)
        again = recipe.train(f"exp/{name}", *LONGER)
        assert again.status == 0, again.output[-3000:]
        messages.append(again.line("Training goes on"))
        assert "1/2epoch started" not in again.output
        same_weights(recipe.path / f"exp/{name}", recipe.path / "exp/straight")
        assert not list((recipe.path / f"exp/{name}").glob(".*.tmp"))
    rerun = f"{again.seconds:.0f} s of {straight.seconds:.0f} s; same weights, bit by bit, as without"
    return Finding("5 distill", statuses[0], messages[0].split("INFO: ")[-1], "a whole state", rerun)
