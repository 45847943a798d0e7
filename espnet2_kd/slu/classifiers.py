"""From acoustic frames to intents: the speech transformer of the paper and its recurrent baseline."""

import math

import torch
from espnet2.cls.decoder.abs_decoder import AbsDecoder
from torch import nn

from espnet2_kd.layers.feed_forward import make_activation


class AttentionMap(nn.Module):
    """Attention of queries to keys (B, H, T, d) -> weights (B, H, T, T), and a place to tap their mean over heads (B, T, T).

    `mean_scores` and `mean_weights` are what it is before and after the softmax; the former has no mask.

    official_code_compat: as in the code of the paper, whose `mean_weights` come after dropout and of whose B H maps, which lie
        head by head, each H that lie side by side are averaged: mostly utterances of one head.
    """

    def __init__(self, dropout_rate: float, official_code_compat: bool = False) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout_rate)
        self.compat = official_code_compat
        self.mean_scores = nn.Identity()
        self.mean_weights = nn.Identity()

    def forward(self, q: torch.Tensor, k: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """valid (B, T) bool, True for frames that may be attended to."""
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        self.mean_scores(self._mean(scores))
        blocked = ~valid[:, None, None]
        # Softmax of rows that are blocked altogether would be no number.
        weights = scores.masked_fill(blocked, -1e9).softmax(-1).masked_fill(blocked, 0.0)
        dropped = self.dropout(weights)
        self.mean_weights(self._mean(dropped if self.compat else weights))
        return dropped

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        if self.compat:
            x = x.transpose(0, 1).reshape(x.shape)
        return x.mean(1)


class SelfAttention(nn.Module):
    """Multi-head self-attention whose map can be tapped: `attention.mean_weights` before dropout, `attention.mean_scores`."""

    def __init__(self, size: int, num_heads: int, dropout_rate: float, official_code_compat: bool = False) -> None:
        super().__init__()
        if size % num_heads:
            raise ValueError(f"size {size} is not a multiple of attention_heads {num_heads}")
        self.num_heads = num_heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(size, size) for _ in range(4))
        self.attention = AttentionMap(dropout_rate, official_code_compat)

    def forward(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """x (B, T, D), valid (B, T) bool -> (B, T, D)."""
        q, k, v = (
            linear(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        return self.linear_out((self.attention(q, k, valid) @ v).transpose(1, 2).flatten(2))


class PostNormLayer(nn.Module):
    """Transformer layer that normalises after each residual sum, as BERT does (Vaswani et al., 2017)."""

    def __init__(
        self,
        size: int,
        num_heads: int,
        hidden_size: int,
        dropout_rate: float,
        activation: str,
        official_code_compat: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = SelfAttention(size, num_heads, dropout_rate, official_code_compat)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, hidden_size), make_activation(activation), nn.Linear(hidden_size, size)
        )
        self.norm_attn, self.norm_ff = nn.LayerNorm(size), nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B, T, D), mask (B, 1, T) bool, True for valid frames -> both."""
        x = self.norm_attn(x + self.dropout(self.self_attn(x, mask[:, 0])))
        return self.norm_ff(x + self.dropout(self.feed_forward(x))), mask


class FrameVotes(nn.Module):
    """Scores of the classes in every frame, of which the largest over time counts (B, T, D) -> (B, V)."""

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, num_classes)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """mask (B, 1, T) bool; an utterance without a frame scores 0 for every class."""
        scores = self.linear(x).masked_fill(~mask.transpose(1, 2), -torch.inf)
        if not scores.shape[1]:
            return scores.new_zeros(len(scores), scores.shape[2])
        return scores.amax(1).masked_fill(~mask.any(2), 0.0)


class TransformerClassifier(AbsDecoder):
    """The student of Jiang et al. (Interspeech 2021): a few post-norm layers over slow frames.

    Layers are tapped as `decoder.layers.<n>`, their attention as `decoder.layers.<n>.self_attn.attention.mean_weights`.

    vocab_size: classes, those of all slots together.
    encoder_output_size: width of the acoustic frames.
    official_code_compat: as the code of the paper: padding is heard like speech, and see `AttentionMap`.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        size: int = 512,
        attention_heads: int = 8,
        linear_units: int = 768,
        num_blocks: int = 4,
        dropout_rate: float = 0.1,
        activation: str = "relu",
        official_code_compat: bool = False,
    ) -> None:
        super().__init__()
        self.compat = official_code_compat
        self.embed = nn.Sequential(nn.Linear(encoder_output_size, size), nn.LayerNorm(size))
        self.dropout = nn.Dropout(dropout_rate)
        self.layers = nn.ModuleList(
            PostNormLayer(size, attention_heads, linear_units, dropout_rate, activation, official_code_compat)
            for _ in range(num_blocks)
        )
        self.votes = FrameVotes(size, vocab_size)

    def forward(self, hs_pad: torch.Tensor, hlens: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, D), lens (B,) -> logits (B, V)."""
        mask = torch.arange(hs_pad.shape[1], device=hs_pad.device) < hlens[:, None, None]
        if self.compat:
            mask = torch.ones_like(mask)
        x = self.embed(hs_pad)
        x = self.dropout(x + _sinusoids(x))
        for layer in self.layers:
            x, mask = layer(x, mask)
        return self.votes(x, mask)


class GRUClassifier(AbsDecoder):
    """Baseline of Lugosch et al. (Interspeech 2019): a bidirectional GRU over the same frames, the largest vote counts."""

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        size: int = 128,
        num_layers: int = 1,
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.rnn = nn.GRU(encoder_output_size, size, num_layers, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout_rate)
        self.votes = FrameVotes(2 * size, vocab_size)

    def forward(self, hs_pad: torch.Tensor, hlens: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, D), lens (B,) -> logits (B, V)."""
        mask = torch.arange(hs_pad.shape[1], device=hs_pad.device) < hlens[:, None, None]
        # Packed, since the backward direction would begin in the padding.
        packed = nn.utils.rnn.pack_padded_sequence(
            hs_pad, hlens.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        x, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=hs_pad.shape[1])
        return self.votes(self.dropout(x), mask)


def _sinusoids(x: torch.Tensor) -> torch.Tensor:
    """Positions of (B, T, D) as sines and cosines (T, D), without scaling x (Vaswani et al., 2017, 3.5)."""
    num, size = x.shape[1:]
    rates = torch.exp(torch.arange(0, size, 2, device=x.device) * (-math.log(10000.0) / size))
    angles = torch.arange(num, device=x.device)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :size].to(x.dtype)
