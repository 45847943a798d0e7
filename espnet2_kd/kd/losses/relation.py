"""Self-attention relation distillation of MiniLMv2 (Wang et al., ACL Findings 2021)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.reduction import check_reduction, per_utterance
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq


def relation_kl(student: Seq, teacher: Seq, num_heads: int) -> Tensor:
    """KL between the relation matrices `softmax(X X^T / sqrt(d))` of teacher and student, averaged over heads.

    Args:
        student, teacher: `(B, T, D_s)`, `(B, T, D_t)`; both widths are split into `num_heads` heads of width d.

    Returns:
        `(B, T)`: KL(teacher || student) of each row; padded keys are excluded, padded rows are meaningless.
    """
    keys = student.mask
    # Masked before the product: a NaN in the padding would spoil the gradient of every frame otherwise.
    log_relations = []
    for seq in (student, teacher):
        x = seq.x.float().masked_fill(~keys.unsqueeze(-1), 0.0)
        heads = x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
        logits = heads @ heads.transpose(-1, -2) / math.sqrt(heads.shape[-1])
        logits = logits.masked_fill(~keys[:, None, None, :], -math.inf)
        log_relations.append(F.log_softmax(logits, dim=-1).masked_fill(~keys[:, None, None, :], 0.0))
    log_student, log_teacher = log_relations
    probs = log_teacher.exp().masked_fill(~keys[:, None, None, :], 0.0)
    return (probs * (log_teacher - log_student)).sum(-1).mean(1)


@LOSSES.add("relation")
class Relation:
    """L_KLD = L^Q + L^K + L^V, summed over the valid frames.

    Args:
        num_heads: relation heads A; must divide both widths (8 for a teacher of 8 heads).
    """

    reads = ("q", "k", "v")

    def __init__(self, num_heads: int, reduction: str = "sum") -> None:
        self.num_heads = num_heads
        self.reduction = check_reduction(reduction)

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        total = 0.0
        for name in self.reads:
            s, t = student[name], teacher[name]
            for side, seq in (("student", s), ("teacher", t)):
                if seq.x.shape[-1] % self.num_heads:
                    raise ConfigError(
                        f"relation: {side} width {seq.x.shape[-1]} does not split into {self.num_heads} heads"
                    )
            total = total + per_utterance(relation_kl(s, t, self.num_heads), s.mask, self.reduction)
        return total
