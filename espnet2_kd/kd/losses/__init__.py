"""Distillation losses. Each takes student and teacher `Seq`s and returns one number per utterance, `(B,)`, in float32."""

from espnet2_kd.kd.registry import Registry

LOSSES = Registry("loss")

from espnet2_kd.kd.losses import (  # noqa: E402, F401  (they register)
    attention,
    contrastive,
    distance,
    future,
    output_kl,
    regression,
    relation,
)
