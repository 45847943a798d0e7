"""Conformer block, for whole utterances and for streams."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.chunk_attention import ChunkAttention
from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.convolution import ConvolutionModule
from espnet2_kd.layers.feed_forward import FeedForward
from espnet2_kd.layers.relative_position import relative_positions


@dataclass(frozen=True)
class BlockState:
    """What a block remembers of a stream.

    pending: frames received but not yet emitted, after the first feed-forward (B, P, D).
    keys, values: (B, K, H, D / H), of the last K frames received.
    conv: gated frames before the next one to convolve (B, D, kernel_size - 1), or None without a convolution.
    emitted: frames emitted so far.
    """

    pending: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    conv: torch.Tensor | None
    emitted: int = 0


class ConformerBlock(nn.Module):
    """Macaron Conformer block with pre-normalisation (arXiv 2005.08100, 2.4).

    ``macaron=False`` leaves out the first feed-forward and gives the second full weight; ``kernel_size=0`` leaves out
    the convolution.
    """

    def __init__(
        self,
        size: int,
        num_heads: int,
        hidden_size: int,
        kernel_size: int,
        causal: bool,
        conv_norm: str = "layer_norm",
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        macaron: bool = True,
        activation: str = "swish",
    ) -> None:
        super().__init__()
        self.size = size
        self.causal = causal or kernel_size == 0
        self.self_attn = ChunkAttention(num_heads, size, attention_dropout_rate)
        self.norm_mha = nn.LayerNorm(size)
        self.feed_forward = FeedForward(size, hidden_size, dropout_rate, activation)
        self.norm_ff = nn.LayerNorm(size)
        self.feed_forward_macaron = FeedForward(size, hidden_size, dropout_rate, activation) if macaron else None
        self.norm_ff_macaron = nn.LayerNorm(size) if macaron else None
        self.conv_module = ConvolutionModule(size, kernel_size, causal, conv_norm, activation) if kernel_size else None
        self.norm_conv = nn.LayerNorm(size) if kernel_size else None
        self.norm_final = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, pos: torch.Tensor, plan: AttentionPlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B, T, D), mask (B, 1, T) bool, True for valid frames, pos for ``self_attn`` -> (x, mask).

        Raises ValueError for a chunked context with a centred convolution, which would look past the chunk.
        """
        if not (self.causal or plan.context.full):
            raise ValueError("a centred convolution looks past the chunk: a chunked context needs a causal one")
        x = self._first(x)
        x = x + self.dropout(self.self_attn(self.norm_mha(x), pos, plan))
        if self.conv_module is not None:
            x = x + self.dropout(self.conv_module(self.norm_conv(x), mask[:, 0]))
        return self._last(x), mask

    def initial_state(self, batch_size: int) -> BlockState:
        """State before the first frame of a stream."""
        like = self.norm_final.weight
        empty = like.new_zeros(batch_size, 0, self.self_attn.num_heads, self.self_attn.head_size)
        conv = None
        if self.conv_module is not None:
            conv = like.new_zeros(batch_size, self.size, self.conv_module.history)
        return BlockState(like.new_zeros(batch_size, 0, self.size), empty, empty, conv)

    def forward_chunk(
        self, x: torch.Tensor, limits: torch.Tensor, state: BlockState, context: ChunkContext, final: bool
    ) -> tuple[torch.Tensor, BlockState]:
        """Next frames x (B, T, D) of a stream -> frames whose context is complete (B, T', D) and the new state.

        limits: length of each stream (B,), or a number larger than any where its end is not yet known.
        final: no frame follows, so that all pending ones are emitted.
        """
        x = self._first(x)
        k, v = self.self_attn.keys_values(self.norm_mha(x))
        received = state.emitted + state.pending.shape[1] + x.shape[1]
        state = replace(
            state,
            pending=torch.cat((state.pending, x), dim=1),
            keys=torch.cat((state.keys, k), dim=1),
            values=torch.cat((state.values, v), dim=1),
        )
        ready = received if final else context.complete(received)
        outputs = [x[:, :0]]
        while state.emitted < ready:
            out, state = self._emit(min(ready - state.emitted, _slice_size(context)), limits, state, context)
            outputs.append(out)
        return torch.cat(outputs, dim=1), state

    def _emit(
        self, num: int, limits: torch.Tensor, state: BlockState, context: ChunkContext
    ) -> tuple[torch.Tensor, BlockState]:
        x, rest = state.pending[:, :num], state.pending[:, num:]
        first, last = state.emitted, state.emitted + num
        received = first + state.pending.shape[1]
        oldest = received - state.keys.shape[1]
        newest = min(received, last + context.right)
        frames = torch.arange(first, last, device=x.device)
        keys = torch.arange(oldest, newest, device=x.device)
        blocked = ~(context.allowed(frames, keys) & (keys < limits[:, None])[:, None])
        pos = relative_positions(last - 1 - oldest, newest - 1 - first, self.size, x)
        k, v = (y[:, : newest - oldest] for y in (state.keys, state.values))
        x = x + self.self_attn.attend_cached(self.norm_mha(x), k, v, self.self_attn.positions(pos), blocked)
        conv = state.conv
        if self.conv_module is not None:
            y, conv = self.conv_module.forward_chunk(self.norm_conv(x), conv)
            x = x + y
        keep = state.keys.shape[1] if context.left is None else received - last + context.left
        return self._last(x), BlockState(rest, _newest(state.keys, keep), _newest(state.values, keep), conv, last)

    def _first(self, x: torch.Tensor) -> torch.Tensor:
        if self.feed_forward_macaron is None:
            return x
        return x + 0.5 * self.dropout(self.feed_forward_macaron(self.norm_ff_macaron(x)))

    def _last(self, x: torch.Tensor) -> torch.Tensor:
        weight = 1.0 if self.feed_forward_macaron is None else 0.5
        return self.norm_final(x + weight * self.dropout(self.feed_forward(self.norm_ff(x))))


def _slice_size(context: ChunkContext) -> int:
    # Whole chunks, and few enough frames that a long piece of audio at once costs no more memory than a live stream.
    return -(-64 // context.chunk) * context.chunk


def _newest(x: torch.Tensor, num: int) -> torch.Tensor:
    return x[:, max(x.shape[1] - num, 0) :]
