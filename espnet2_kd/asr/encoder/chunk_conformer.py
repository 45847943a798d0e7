"""Conformer encoder restricted to chunks, for streaming students and full-context teachers alike."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from espnet.nets.pytorch_backend.transformer.subsampling import TooShortUttError
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import nn

from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.conformer_block import BlockState, ConformerBlock
from espnet2_kd.layers.pooling import pool_pairs
from espnet2_kd.layers.relative_position import relative_positions
from espnet2_kd.layers.subsampling import Conv2dSubsampling

END_UNKNOWN = 2**62


@dataclass(frozen=True)
class EncoderState:
    """What the encoder remembers of a batch of streams.

    Pools need nothing: blocks before them emit whole chunks, which are an even number of frames, until the final call.

    feats: feature frames that later output frames still need (B, n, F).
    num_feats: feature frames received that belong to each stream (B,).
    ended: whether each stream is known to have ended (B,) bool.
    blocks: one state per block.
    emitted: encoder frames emitted so far, the padding of ended streams included.
    lens: encoder frames emitted so far that belong to each stream (B,).
    """

    feats: torch.Tensor
    num_feats: torch.Tensor
    ended: torch.Tensor
    blocks: tuple[BlockState, ...]
    emitted: int
    lens: torch.Tensor


class ChunkConformerEncoder(AbsEncoder):
    """Conformer whose frames attend to their chunk, to ``left`` before it and to ``right`` after it.

    Sizes are given in milliseconds or in encoder frames (``stride`` feature frames each), not both. Without a chunk
    size the context is full. The right context is that of one layer, so that it accumulates: see ``lookahead_frames``.

    Encoder frames are those that come out, after all pools: ``pool_after=(5, 10)`` on ``conv2d2`` makes them 80 ms long.
    A block with k pools after it has 2**k times as many frames, in its output and in its context, so that a chunk holds
    the same time everywhere. ``cnn_module_kernel`` counts the block's own frames, so it spans less time before a pool.

    pool_after: blocks, counted from 1, after which each two frames become their maximum (HieraDist, Han et al.,
        Interspeech 2023); of an odd number of frames the last stays alone, so that no audio is lost.
    input_layer: conv2d2, conv2d (x4), conv2d6 or conv2d8.
    input_channels: channels of the subsampling's convolutions, ``output_size`` by default as in ESPnet2.
    cnn_module_kernel: frames of the depthwise convolution; ``use_cnn_module=False`` leaves it out.
    conv_norm: layer_norm or batch_norm, within the convolution module.
    causal_conv: None chooses a causal convolution when the context is chunked and a centred one when it is full.
    frame_shift_ms: time between two feature frames; only converts milliseconds.
    dynamic_chunk_frames: chunk sizes of which training draws one per batch (arXiv 2012.05481); inference uses ``chunk``.
    dynamic_full_prob: probability that training uses full context instead.

    Raises ValueError for contradicting sizes, for milliseconds that are no whole number of frames, for a centred
    convolution with a chunked context, and for pools that are not in order or after no block.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        positional_dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        input_layer: str = "conv2d",
        input_channels: int | None = None,
        macaron_style: bool = True,
        activation_type: str = "swish",
        use_cnn_module: bool = True,
        cnn_module_kernel: int = 15,
        conv_norm: str = "layer_norm",
        causal_conv: bool | None = None,
        frame_shift_ms: float = 10.0,
        chunk_ms: float | None = None,
        left_ms: float | None = None,
        right_ms: float | None = None,
        chunk_frames: int | None = None,
        left_frames: int | None = None,
        right_frames: int | None = None,
        dynamic_chunk_frames: Sequence[int] = (),
        dynamic_full_prob: float = 0.0,
        pool_after: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._output_size = output_size
        self.pool_after = _checked_pools(pool_after, num_blocks)
        self.frame_shift_ms = frame_shift_ms
        self.embed = Conv2dSubsampling(input_layer, input_size, output_size, input_channels)
        self.context = ChunkContext(
            self._frames("chunk", chunk_ms, chunk_frames),
            self._frames("left", left_ms, left_frames),
            self._frames("right", right_ms, right_frames) or 0,
        )
        self.sizes_in_ms = any(ms is not None for ms in (chunk_ms, left_ms, right_ms))
        self.dynamic_contexts = self._dynamic_contexts(dynamic_chunk_frames, dynamic_full_prob)
        self.dynamic_full_prob = dynamic_full_prob
        chunked = not self.context.full or bool(self.dynamic_contexts)
        self.causal_conv = chunked if causal_conv is None else causal_conv
        self.looks_ahead = use_cnn_module and not self.causal_conv
        self._check_causal(chunked)
        self.dropout = nn.Dropout(positional_dropout_rate)
        self.encoders = nn.ModuleList(
            ConformerBlock(
                output_size,
                attention_heads,
                linear_units,
                cnn_module_kernel if use_cnn_module else 0,
                self.causal_conv,
                conv_norm,
                dropout_rate,
                attention_dropout_rate,
                macaron_style,
                activation_type,
            )
            for _ in range(num_blocks)
        )
        self.after_norm = nn.LayerNorm(output_size)

    def output_size(self) -> int:
        """Size of an encoder frame."""
        return self._output_size

    @property
    def stride(self) -> int:
        """Feature frames from one encoder frame to the next."""
        return self.embed.stride * self.rate(1)

    @property
    def frame_ms(self) -> float:
        """Time between two encoder frames."""
        return self.stride * self.frame_shift_ms

    def last_feature(self, frame: int) -> int:
        """Last feature frame that encoder frame ``frame`` is made of, both counted from 0, without any context."""
        return (frame + 1) * self.stride - self.embed.stride + self.embed.receptive_field - 1

    @property
    def lookahead_frames(self) -> int:
        """Encoder frames after its chunk that an output depends on, over all blocks."""
        return self.context.lookahead(len(self.encoders))

    def set_context(self, chunk: int | None, left: int | None = None, right: int = 0) -> None:
        """Change chunk, left and right context (encoder frames) of a trained encoder; raises as the constructor."""
        context = ChunkContext(chunk, left, right)
        self._check_causal(not context.full)
        self.context = context

    @contextmanager
    def full_context(self) -> Iterator[None]:
        """For a while, every frame attends to all others, in training too; a causal convolution stays causal."""
        kept = self.context, self.dynamic_contexts
        self.context, self.dynamic_contexts = ChunkContext(), ()
        try:
            yield
        finally:
            self.context, self.dynamic_contexts = kept

    def set_context_ms(
        self, chunk_ms: float | None = None, left_ms: float | None = None, right_ms: float | None = None
    ) -> None:
        """Change what is given and keep the rest; ``left_ms=math.inf`` is all of the past.

        Raises ValueError for what is no whole number of frames, and as the constructor.
        """
        chunk, left, right = self.context.chunk, self.context.left, self.context.right
        if chunk_ms is not None:
            chunk = self._frames("chunk", chunk_ms, None)
        if left_ms is not None:
            left = None if math.isinf(left_ms) else self._frames("left", left_ms, None)
        if right_ms is not None:
            right = self._frames("right", right_ms, None)
        self.set_context(chunk, left, right)
        self.sizes_in_ms = True

    def forward(
        self,
        xs_pad: torch.Tensor,
        ilens: torch.Tensor,
        prev_states: torch.Tensor | None = None,
        ctc: nn.Module | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """xs_pad (B, T, F), ilens (B,) -> frames (B, T', D), their lengths (B,), None; the rest is not used.

        Raises TooShortUttError when the longest utterance is shorter than the receptive field of the subsampling.
        """
        shortest = self.embed.receptive_field
        if xs_pad.shape[1] < shortest:
            raise TooShortUttError(
                f"has {xs_pad.shape[1]} frames and is too short for subsampling "
                f"(it needs at least {shortest} frames), return empty results",
                xs_pad.shape[1],
                shortest,
            )
        ilens = ilens.to(xs_pad.device)
        # Zeros, because what lies in the padding may be no number, and zero times that is none either.
        x = self._embed(xs_pad.masked_fill(_padding(ilens, xs_pad.shape[1])[:, :, None], 0.0))
        lens = self.embed.num_frames(ilens)
        context = self._draw_context()
        mask, pos, plan = self._layout(x, lens, context.times(self.rate(1)))
        x = self.dropout(x)
        for number, block in enumerate(self.encoders, start=1):
            x, mask = block(x, mask, pos, plan)
            if number in self.pool_after:
                x, lens = pool_pairs(x, lens)
                mask, pos, plan = self._layout(x, lens, context.times(self.rate(number + 1)))
        return self.after_norm(x), lens, None

    def initial_state(self, batch_size: int = 1) -> EncoderState:
        """State before the first feature frame of ``batch_size`` streams; raises ValueError for full context."""
        if self.context.full:
            raise ValueError("an encoder with full context cannot run chunk by chunk: set a chunk size")
        like = self.after_norm.weight
        zeros = torch.zeros(batch_size, dtype=torch.long, device=like.device)
        blocks = tuple(block.initial_state(batch_size) for block in self.encoders)
        return EncoderState(like.new_zeros(batch_size, 0, 0), zeros, zeros.bool(), blocks, 0, zeros)

    def forward_chunk(
        self, feats: torch.Tensor, state: EncoderState, final: bool = False, lens: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, EncoderState]:
        """Any number of next feature frames (B, T, F) -> encoder frames now final (B, T', D) and the new state.

        The frames of all calls together equal ``forward`` of the whole, in evaluation mode.

        final: no frame follows.
        lens: valid frames of ``feats`` (B,); a stream with fewer than T ends there. None: all are valid.
        """
        batch_size, num = feats.shape[:2]
        lens = feats.new_full((batch_size,), num, dtype=torch.long) if lens is None else lens.to(feats.device)
        if (state.ended & (lens > 0)).any():
            raise ValueError("a stream that has ended gets further frames: start a new one with initial_state()")
        num_feats = state.num_feats + lens
        ended = state.ended | (lens < num) | final
        limits = torch.where(ended, self.embed.num_frames(num_feats), END_UNKNOWN)
        x, feats = self._embed_chunk(torch.cat((state.feats, feats), dim=1) if state.feats.shape[1] else feats)
        blocks = []
        for number, (block, old) in enumerate(zip(self.encoders, state.blocks), start=1):
            x, new = block.forward_chunk(x, limits, old, self.context.times(self.rate(number)), final)
            blocks.append(new)
            if number in self.pool_after:
                x, limits = pool_pairs(x, limits, old.emitted)
        emitted = state.emitted + x.shape[1]
        state = EncoderState(feats, num_feats, ended, tuple(blocks), emitted, limits.clamp(max=emitted))
        return self.after_norm(x), state

    def _embed(self, feats: torch.Tensor) -> torch.Tensor:
        x = self.embed(feats)
        # The residual stream stays in float32 under autocast: bfloat16 rounds the blocks' small updates away.
        return x.to(torch.promote_types(x.dtype, torch.float32)) * math.sqrt(self._output_size)

    def _embed_chunk(self, feats: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, n, F) -> all frames they allow (B, m, D) and the features that the next frame needs."""
        stride, width = self.embed.stride, self.embed.receptive_field
        num = (feats.shape[1] - width) // stride + 1
        if num <= 0:
            return feats.new_zeros(feats.shape[0], 0, self._output_size), feats
        return self._embed(feats[:, : (num - 1) * stride + width]), feats[:, num * stride :]

    def rate(self, number: int) -> int:
        """Frames that block ``number``, counted from 1, has per encoder frame."""
        return 2 ** sum(number <= last for last in self.pool_after)

    def _layout(
        self, x: torch.Tensor, lens: torch.Tensor, context: ChunkContext
    ) -> tuple[torch.Tensor, torch.Tensor, AttentionPlan]:
        """Mask (B, 1, T), positions and plan for the blocks up to the next pool, for x (B, T, D) and lens (B,)."""
        plan = AttentionPlan.make(lens, x.shape[1], context)
        pos = self.dropout(relative_positions(plan.back, plan.ahead, self._output_size, x))
        return ~_padding(lens, x.shape[1])[:, None], pos, plan

    def _draw_context(self) -> ChunkContext:
        if not (self.training and self.dynamic_contexts):
            return self.context
        if torch.rand(()) < self.dynamic_full_prob:
            return ChunkContext()
        return self.dynamic_contexts[int(torch.randint(len(self.dynamic_contexts), ()))]

    def _dynamic_contexts(self, chunk_sizes: Sequence[int], full_prob: float) -> tuple[ChunkContext, ...]:
        if not 0.0 <= full_prob <= 1.0:
            raise ValueError(f"dynamic_full_prob must lie between 0 and 1, got {full_prob}")
        if full_prob and not chunk_sizes:
            raise ValueError("dynamic_full_prob needs dynamic_chunk_frames, the sizes to draw from otherwise")
        return tuple(ChunkContext(size, self.context.left, self.context.right) for size in chunk_sizes)

    def _frames(self, name: str, ms: float | None, frames: int | None) -> int | None:
        if ms is None:
            return frames
        if frames is not None:
            raise ValueError(f"give {name}_ms or {name}_frames, not both")
        num = round(ms / self.frame_ms)
        if abs(num * self.frame_ms - ms) > 1e-6:
            raise ValueError(f"{name}_ms={ms:g} is not a multiple of the encoder frame of {self.frame_ms:g} ms")
        return num

    def _check_causal(self, chunked: bool) -> None:
        if chunked and self.looks_ahead:
            raise ValueError("causal_conv=False looks past the chunk: a chunked context needs causal_conv=True")


def _checked_pools(pool_after: Sequence[int], num_blocks: int) -> tuple[int, ...]:
    pools = tuple(pool_after)
    if list(pools) != sorted(set(pools) & set(range(1, num_blocks + 1))):
        raise ValueError(
            f"pool_after must name blocks from 1 to {num_blocks} in ascending order, each once, got {list(pools)}"
        )
    return pools


def _padding(lens: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Lengths (B,) -> bool (B, T), True on padding."""
    return torch.arange(num_frames, device=lens.device) >= lens[:, None]
