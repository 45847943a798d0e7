"""Trains a language model: every option of `espnet2.bin.lm_train`, and those of the guard."""

from __future__ import annotations

import sys

from espnet2_kd.bin.training import run_task
from espnet2_kd.tasks.interruption import interruptible


def main(cmd: list[str] | None = None) -> None:
    # From here on: what has not begun yet can end at once.
    with interruptible():
        from espnet2_kd.tasks.lm import GuardedLMTask

        run_task(GuardedLMTask, sys.argv[1:] if cmd is None else cmd)


if __name__ == "__main__":
    main()
