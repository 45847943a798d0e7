"""Token-level contrastive distillation of HieraDist (Han et al., Interspeech 2023)."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.reduction import check_reduction, per_utterance
from espnet2_kd.kd.processes import together
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq


@LOSSES.add("contrastive")
class Contrastive:
    """L_ACD: `-log softmax` of a token's own teacher vector among those of other tokens of the batch.

    Similarities are cosines over `temperature`. Each token draws its negatives by itself, uniformly and without
    replacement, never its own teacher vector; a batch with one token gives 0.

    Args:
        temperature: 0.02 in the paper.
        num_negatives: of each token. With no more tokens than that in the batch, 80 % of them, as the paper's code has it;
            None: all others.
        mask_same: leave out negatives with the same label; the teacher must tell the labels.
        gather: draw from the teacher vectors of all processes.
        reduction: over the tokens of an utterance.
    """

    reads = ("x",)

    def __init__(
        self,
        temperature: float = 0.02,
        num_negatives: int | None = 700,
        mask_same: bool = False,
        gather: bool = False,
        reduction: str = "sum",
    ) -> None:
        if temperature <= 0:
            raise ConfigError(f"contrastive: temperature {temperature} must be positive")
        if num_negatives is not None and num_negatives < 1:
            raise ConfigError(f"contrastive: num_negatives {num_negatives} must be at least 1, or null for all")
        self.temperature, self.num_negatives = temperature, num_negatives
        self.mask_same, self.gather = mask_same, gather
        self.reduction = check_reduction(reduction)

    def __call__(self, student: dict[str, Seq], teacher: dict[str, Seq]) -> Tensor:
        s, t = student["x"], teacher["x"]
        mask = s.mask
        if self.mask_same and t.labels is None:
            raise ConfigError("contrastive: mask_same needs the labels of the tokens, which this teacher does not tell")
        anchors, pool = (F.normalize(seq.x[mask].float(), dim=-1, eps=1e-6) for seq in (s, t))
        labels = t.labels[:, : mask.shape[1]][mask] if self.mask_same else None
        own = torch.arange(len(anchors), device=pool.device)
        if self.gather:
            pool, first = gathered(pool)
            own = own + first
            labels_of_pool = gathered(labels)[0] if self.mask_same else None
        else:
            labels_of_pool = labels
        similarity = anchors @ pool.T / self.temperature
        keep = self._draw(own, len(pool), pool.device)
        if self.mask_same:
            keep &= labels[:, None] != labels_of_pool
        keep[torch.arange(len(own)), own] = True
        loss = similarity.masked_fill(~keep, -torch.inf).logsumexp(1) - similarity.gather(1, own[:, None]).squeeze(1)
        values = torch.zeros(mask.shape, dtype=loss.dtype, device=loss.device).masked_scatter(mask, loss)
        return per_utterance(values, mask, self.reduction)

    def _draw(self, own: Tensor, size: int, device: torch.device) -> Tensor:
        """Negatives of each token (N, size) bool."""
        num = self.num_negatives
        if num is not None and size <= num:
            num = int(0.8 * size)
        if num is None or num >= size - 1:
            keep = torch.ones(len(own), size, dtype=torch.bool, device=device)
            keep[torch.arange(len(own)), own] = False
            return keep
        order = torch.rand(len(own), size, device=device)
        order[torch.arange(len(own)), own] = -1.0  # never among the first
        keep = torch.zeros(len(own), size, dtype=torch.bool, device=device)
        return keep.scatter_(1, order.topk(num, dim=1, sorted=False).indices, True)


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """The rows `(n, ...)` of all processes, in the order of their ranks, and where one's own begin; no gradient flows back."""
    if not together():
        return rows, 0
    sizes = [torch.zeros((), dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor(len(rows), device=rows.device))
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return whole, sum(counts[: dist.get_rank()])
