"""Trains a classifier of intents on top of a frozen acoustic front-end, distilled from a text encoder or not."""

from __future__ import annotations

import sys

from espnet2_kd.bin.training import train
from espnet2_kd.tasks.interruption import interruptible


def main(cmd: list[str] | None = None) -> None:
    # From here on: what has not begun yet can end at once.
    with interruptible():
        from espnet2_kd.tasks.intent import KDIntentTask

        train(KDIntentTask, "espnet2_kd.bin.intent_train", sys.argv[1:] if cmd is None else cmd)


if __name__ == "__main__":
    main()
