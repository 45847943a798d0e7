"""Trains a speech recogniser, distilled or not: every option of `espnet2.bin.asr_train`, and the distillation options."""

from __future__ import annotations

import sys

from espnet2_kd.bin.training import train
from espnet2_kd.tasks.interruption import interruptible


def main(cmd: list[str] | None = None) -> None:
    # From here on: what has not begun yet can end at once.
    with interruptible():
        from espnet2_kd.tasks.asr import KDASRTask

        train(KDASRTask, "espnet2_kd.bin.asr_train", sys.argv[1:] if cmd is None else cmd)


if __name__ == "__main__":
    main()
