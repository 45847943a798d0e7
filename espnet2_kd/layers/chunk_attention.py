"""Multi-head self-attention with relative positions, restricted to chunks."""

import math

import torch
from torch import nn

from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.folded_attention import distance_to_key, folded_attention


class ChunkAttention(nn.Module):
    """Relative-position self-attention (Transformer-XL, arXiv 1901.02860, 3.3) within the context of an AttentionPlan.

    Parameters have the names and shapes of ESPnet2's RelPositionMultiHeadedAttention. With a bounded context the cost
    is linear in the number of frames, and only the distances that occur are projected.

    Raises ValueError when the size is not a multiple of the number of heads.
    """

    def __init__(self, num_heads: int, size: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        if size % num_heads:
            raise ValueError(f"size {size} is not a multiple of {num_heads} attention heads")
        self.num_heads = num_heads
        self.head_size = size // num_heads
        self.linear_q = nn.Linear(size, size)
        self.linear_k = nn.Linear(size, size)
        self.linear_v = nn.Linear(size, size)
        self.linear_out = nn.Linear(size, size)
        self.linear_pos = nn.Linear(size, size, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(num_heads, self.head_size))
        self.pos_bias_v = nn.Parameter(torch.empty(num_heads, self.head_size))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)
        self.dropout_rate = dropout_rate

    def forward(self, x: torch.Tensor, pos: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
        """x (B, T, D) and pos (plan.back + plan.ahead + 1, D) -> (B, T, D); padded frames are finite, no more."""
        q = self._split(self.linear_q(x))
        k, v = self.keys_values(x)
        return self.linear_out(self.attend(q, k, v, self.positions(pos), plan))

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, p: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:
        """Queries, keys and values (B, T, H, D / H) and p from ``positions`` -> (B, T, D)."""
        dropout_rate = self.dropout_rate if self.training else 0.0
        return folded_attention(q, k, v, p, self.pos_bias_u, self.pos_bias_v, plan, dropout_rate)

    def keys_values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B, T, D) -> keys and values, each (B, T, H, D / H)."""
        return self._split(self.linear_k(x)), self._split(self.linear_v(x))

    def positions(self, pos: torch.Tensor) -> torch.Tensor:
        """Distance rows (R, D) projected to (H, R, D / H)."""
        return self._split(self.linear_pos(pos)).transpose(0, 1)

    def attend_cached(
        self, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, p: torch.Tensor, blocked: torch.Tensor
    ) -> torch.Tensor:
        """Attention of some frames over given keys, for a running stream.

        x: queries' frames (B, Q, D).
        k, v: (B, K, H, D / H), from ``keys_values``.
        p: (H, Q + K - 1, D / H), from ``positions``; the first row belongs to the last query and the first key.
        blocked: bool, broadcastable to (B, Q, K).
        Returns (B, Q, D).
        """
        q, k, v = (y.transpose(1, 2) for y in (self._split(self.linear_q(x)), k, v))
        by_content, by_distance = (q + bias[:, None] for bias in (self.pos_bias_u, self.pos_bias_v))
        distance = distance_to_key(by_distance @ p.transpose(1, 2), k.shape[2])
        scores = (by_content @ k.transpose(2, 3) + distance) / math.sqrt(self.head_size)
        scores = scores.masked_fill(blocked[:, None], torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        return self.linear_out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_size))
