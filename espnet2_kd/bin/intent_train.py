"""Trains a classifier of intents on top of a frozen acoustic front-end, distilled from a text encoder or not."""

from __future__ import annotations

import sys

from espnet2_kd.bin.training import train


def main(cmd: list[str] | None = None) -> None:
    from espnet2_kd.tasks.intent import KDIntentTask

    train(KDIntentTask, "espnet2_kd.bin.intent_train", sys.argv[1:] if cmd is None else cmd)


if __name__ == "__main__":
    main()
