"""Distance of attention maps (TinyBERT, Jiao et al., 2020; Jiang et al., Interspeech 2021)."""

from __future__ import annotations

from torch import Tensor

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq

KINDS = ("prob", "score")


@LOSSES.add("attention")
class Attention:
    """Mean squared difference of two maps, averaged over heads beforehand, over the valid rows and columns of an utterance.

    Args:
        kind: what the taps hold: `prob` (after the softmax) or `score` (before); it says how a `match` pools them.
    """

    reads = ("x",)
    compares_maps = True

    def __init__(self, kind: str = "prob") -> None:
        if kind not in KINDS:
            raise ConfigError(f"attention: kind {kind!r}: one of {', '.join(KINDS)}")
        self.probabilities = kind == "prob"

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        s, t = student["x"], teacher["x"]
        if s.x.shape != t.x.shape:
            raise ConfigError(
                f"attention: maps {list(s.x.shape)} of the student and {list(t.x.shape)} of the teacher; a `match` makes them equal"
            )
        both = s.mask[:, :, None] & s.mask[:, None, :]
        squared = (s.x.float().masked_fill(~both, 0.0) - t.x.float().masked_fill(~both, 0.0)).square()
        return squared.sum((1, 2)) / both.sum((1, 2)).clamp(min=1)
