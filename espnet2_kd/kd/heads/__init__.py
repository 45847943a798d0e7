"""Trainable modules between a student tap and a loss; they leave with the training.

A head maps a student `Seq` to a dict of `Seq`s: `x` (features), and, where the head has them, `future` and `q`, `k`, `v`.
"""

from espnet2_kd.kd.registry import Registry

HEADS = Registry("head")

from espnet2_kd.kd.heads import frame_rate, nonstreaming, projection  # noqa: E402, F401  (they register)
