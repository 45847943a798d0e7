"""The streaming step of a ChunkConformerEncoder: whole chunks in, whole chunks out, everything else made beforehand."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from espnet2_kd.asr.encoder.chunk_conformer import ChunkConformerEncoder
from espnet2_kd.layers.conformer_step import ConformerStep
from espnet2_kd.layers.folded_linear import FoldedLinear, Int8Linear
from espnet2_kd.layers.pooling import pool_pairs
from espnet2_kd.layers.subsampling_step import SubsamplingStep

# Frame number of an end that is not known yet, or of one that is far away.
NO_END = 2**30
# Frames that a long piece of audio is computed in at once: larger products, and yet little memory.
MANY_FRAMES = 64

Caches = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class StepState:
    """What ``ChunkStep.forward_chunk`` remembers of a batch of streams.

    feats: feature frames that wait for their chunk to fill, and those that it shares with the one before (B, n, F).
    first: see ``ChunkStep.forward`` (B,).
    caches: as many tensors as ``ChunkStep.cache_names``, each (B, ...).
    received: feature frames received, padding included.
    num_feats: those that belong to each stream (B,).
    ended: whether each stream is known to have ended (B,) bool.
    computed: encoder frames that the chunks so far hold.
    lens: encoder frames emitted that belong to each stream (B,).
    """

    feats: torch.Tensor
    first: torch.Tensor
    caches: Caches
    received: int
    num_feats: torch.Tensor
    ended: torch.Tensor
    computed: int
    lens: torch.Tensor


class ChunkStep(nn.Module):
    """Streaming inference of an encoder with a bounded context, faster than ``encoder.forward_chunk`` and equal to it.

    Time and memory per chunk are constant: shapes do not change, and positions are distances.

    quantize: 8-bit linear layers, with activations quantised on the fly; on the CPU only. Frames then differ from the
        float ones, and a little with what else is in the batch.
    products: compute convolutions as matrix products, which is faster on the CPU. None: on the CPU only.

    chunk: encoder frames of a chunk.
    shift: feature frames from one chunk to the next; a chunk is made of the first ``window(1)``.
    lead: frames after the subsampling that are put before a stream, so that its chunks end where the right context needs it.
    delay: encoder frames by which the output lags behind the input, ``lead`` included.

    The weights are copies: after further training, or another context, make a new one.

    Raises ValueError for training mode, full context, unlimited left context, and ``quantize`` where it cannot run.
    """

    def __init__(self, encoder: ChunkConformerEncoder, quantize: bool = False, products: bool | None = None) -> None:
        super().__init__()
        context, device = encoder.context, encoder.after_norm.weight.device
        if encoder.training:
            raise ValueError("streaming needs the encoder in evaluation mode: call eval() first")
        if context.full or context.left is None:
            raise ValueError("a chunk-wise step needs a chunk size and a bounded left context")
        if quantize and device.type != "cpu":
            raise ValueError(f"8-bit linear layers run on the CPU, not on {device.type}: leave quantize out")
        linear = Int8Linear if quantize else FoldedLinear
        self.quantize, self.context = quantize, context
        self.size = encoder.output_size()
        self.rates = tuple(encoder.rate(number) for number in range(1, len(encoder.encoders) + 2))
        self.chunk, self.shift = context.chunk, context.chunk * encoder.stride
        self.many = max(MANY_FRAMES // (self.chunk * self.rates[0]), 1)
        self.stride, self.reach = encoder.embed.stride, encoder.embed.receptive_field
        self.num_features = encoder.embed.num_features
        self.num_frames = encoder.embed.num_frames
        products = device.type == "cpu" if products is None else products
        self.subsample = SubsamplingStep(encoder.embed, math.sqrt(self.size), linear, products)
        # Blocks pass on whole chunks. Only what enters the first one can be cut so that nothing waits longer than it must:
        # ``offset`` frames after the chunks' ends.
        self.offset = context.right % context.chunk * self.rates[0]
        whole = context.times(self.rates[0])
        delays = [whole.right, *(-(-context.right // context.chunk) * context.chunk * rate for rate in self.rates[1:])]
        self.blocks = nn.ModuleList(
            ConformerStep(block, context.times(rate), delay, linear, products)
            for block, rate, delay in zip(encoder.encoders, self.rates, delays)
        )
        self.after_norm = encoder.after_norm
        waits = [delay // rate for delay, rate in zip(delays, self.rates[: len(self.blocks)])]
        waits[0] -= context.right % context.chunk
        self.lead = -self.offset % whole.chunk
        self.delay = sum(waits) + (self.chunk if self.lead else 0)
        # Beyond this a stream's beginning is out of sight of all blocks.
        longest = self.delay + 2 * self.chunk + context.left + max(waits)
        self.out_of_sight = -(-longest // self.chunk) * whole.chunk - self.lead

    @property
    def cache_names(self) -> tuple[str, ...]:
        """One name per cache."""
        return tuple(f"{name}_{n}" for n, block in enumerate(self.blocks) for name in block.state_names)

    def window(self, num_chunks: int) -> int:
        """Feature frames that so many chunks are made of."""
        return (num_chunks * self.chunk * self.rates[0] - 1) * self.stride + self.reach

    def initial_caches(self, batch_size: int = 1) -> Caches:
        """Caches before the first chunk of streams."""
        return tuple(cache for block in self.blocks for cache in block.initial_state(batch_size))

    def initial_first(self, batch_size: int = 1) -> torch.Tensor:
        """``first`` of the first chunk of streams (B,)."""
        return torch.full((batch_size,), self.lead, dtype=torch.long, device=self.after_norm.weight.device)

    def forward(
        self, feats: torch.Tensor, first: torch.Tensor, end: torch.Tensor, caches: Caches
    ) -> tuple[torch.Tensor, torch.Tensor, Caches]:
        """Next C chunks of B streams, of which each may be at another place.

        feats: (B, window(C), F); what lies after the end of a stream may be any numbers.
        first, end: (B,) long, the numbers of the first frame of each stream and of the one after its last, counted from
            the first frame of this input, in frames after the subsampling. At the beginning of a stream ``lead``, and then
            what this returns; an end that is not known yet is NO_END.
        caches: ``initial_caches`` and then what this returns.

        Returns frames (B, C * chunk, D), which are those ``delay`` earlier; the next ``first``; the next caches.
        """
        # The residual stream stays in float32 under autocast.
        x = self.subsample(feats).to(self.after_norm.weight.dtype)
        num, late, caches, new = self._num_embedded(feats.shape[1]), 0, list(caches), []
        x, next_first = x.reshape(-1, num, self.size), (first - num).clamp(min=-self.out_of_sight)
        outside, shown = None, None
        for n, block in enumerate(self.blocks):
            # Blocks of the same rate that nothing delays see the same.
            if outside is None or block.delay:
                keys = torch.arange(-late - block.num_cached, num - late, device=x.device)
                outside = ((keys < first[:, None]) | (keys >= end[:, None]))[:, None, None]
            late += block.delay
            if (late or self.lead) and (shown is None or block.delay):
                shown = (torch.arange(-late, num - late, device=x.device) < first[:, None])[:, :, None]
            count = len(block.state_names)
            state, caches = caches[:count], caches[count:]
            x, state = block(x, outside, shown, state)
            new += state
            if n == 0 and self.offset:
                # From here on frames are counted from the beginning of a chunk, as pools need it.
                first, end, late = first + self.offset, end + self.offset, late - self.offset
                outside, shown = None, None
            if self.rates[n] != self.rates[n + 1]:
                x, end = pool_pairs(x, end, -late)
                first, num, late = first // 2, num // 2, late // 2
                outside, shown = None, None
        return self.after_norm(x), next_first, tuple(new)

    def initial_state(self, batch_size: int = 1) -> StepState:
        """State of ``forward_chunk`` before the first feature frame of ``batch_size`` streams."""
        like = self.after_norm.weight
        zeros = torch.zeros(batch_size, dtype=torch.long, device=like.device)
        feats = like.new_zeros(batch_size, self.lead * self.stride, self.num_features)
        first = self.initial_first(batch_size)
        return StepState(feats, first, self.initial_caches(batch_size), 0, zeros, zeros.bool(), 0, zeros)

    def forward_chunk(
        self, feats: torch.Tensor, state: StepState, final: bool = False, lens: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, StepState]:
        """Any number of next feature frames (B, T, F) -> encoder frames now final (B, T', D) and the new state.

        As ``ChunkConformerEncoder.forward_chunk``, arguments and errors alike.
        """
        batch_size, num = feats.shape[:2]
        lens = torch.full_like(state.num_feats, num) if lens is None else lens.to(feats.device)
        if (state.ended & (lens > 0)).any():
            raise ValueError("a stream that has ended gets further frames: start a new one with initial_state()")
        received, num_feats = state.received + num, state.num_feats + lens
        ended = state.ended | (lens < num) | final
        ends = torch.where(ended, self.num_frames(num_feats), NO_END)
        waiting = torch.cat((state.feats, feats.to(state.feats.dtype)), dim=1)
        first, caches, computed = state.first, state.caches, state.computed
        last = self._num_output(max(self._num_embedded(received), 0)) if final else None
        outputs = [feats.new_zeros(batch_size, 0, self.size)]
        while (count := self._num_ready(waiting.shape[1])) or (last is not None and computed - self.delay < last):
            count = max(count, 1)
            window = waiting[:, : self.window(count)]
            if window.shape[1] < self.window(count):
                window = F.pad(window, (0, 0, 0, self.window(count) - window.shape[1]))
            # Only differences to this chunk enter, so that no number grows with the stream.
            end = (ends - computed * self.rates[0] + self.lead).clamp(max=NO_END)
            out, first, caches = self(window, first, end, caches)
            begin, computed = computed - self.delay, computed + count * self.chunk
            waiting = waiting[:, count * self.shift :]
            outputs.append(out[:, max(-begin, 0) : None if last is None else max(last - begin, 0)])
        emitted = max(computed - self.delay, 0) if last is None else last
        state = StepState(
            waiting, first, caches, received, num_feats, ended, computed, self._num_output(ends).clamp(max=emitted)
        )
        return torch.cat(outputs, dim=1), state

    def _num_ready(self, num_feats: int) -> int:
        """How many chunks to compute at once from so many feature frames: many or one, for two layouts at most."""
        if num_feats < self.window(1):
            return 0
        return self.many if num_feats >= self.window(self.many) else 1

    def _num_embedded(self, num_feats: int) -> int:
        return (num_feats - self.reach) // self.stride + 1

    def _num_output(self, num: int | torch.Tensor) -> int | torch.Tensor:
        """Frames after the subsampling -> encoder frames: pools keep a last odd one."""
        return -(-num // self.rates[0])
