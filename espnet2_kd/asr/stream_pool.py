"""Many audio streams in one process, encoded together."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from espnet2_kd.asr.encoder.chunk_step import NO_END, ChunkStep
from espnet2_kd.asr.streaming_encoder import make_step
from espnet2_kd.asr.streaming_frontend import StreamingFrontend


class Encoded(NamedTuple):
    """Next encoder frames of a stream (T, D), T >= 0, and whether they are its last."""

    frames: torch.Tensor
    final: bool


class StreamPool:
    """Encoder frames of independent streams, which come and go at any time; each equals ``model.encode`` of it alone.

    Every ``step`` computes one chunk of all streams whose audio suffices for one, in one batch: large products use a
    processor far better than small ones. A pool is not for several threads.

        pool = StreamPool(model)
        call = pool.open()
        pool.push(call, samples)
        for stream, (frames, final) in pool.step().items():
            ...

    Memory: ``bytes_per_stream`` for each open stream, twice that while a step runs, and the audio not yet computed, which
    is less than two chunks per stream once ``step`` has nothing to return.

    model: an ``ESPnetASRModel`` with a chunk_conformer encoder, in evaluation mode.
    max_streams: streams open at a time.
    quantize: 8-bit linear layers, on the CPU; frames are then close to the others, and depend a little on the other streams.
    step: one made before of the same model.

    Raises ValueError for training mode, full context, unlimited left context, and features that need the whole utterance.
    """

    def __init__(
        self, model: torch.nn.Module, max_streams: int = 16, quantize: bool = False, step: ChunkStep | None = None
    ) -> None:
        if model.training:
            raise ValueError("streaming needs the model in evaluation mode: call model.eval() first")
        if max_streams < 1:
            raise ValueError(f"max_streams={max_streams}: must be at least 1")
        step = make_step(model, quantize) if step is None else step
        if step is None:
            raise ValueError("a pool of streams needs a chunk_conformer encoder with chunks and a bounded left context")
        self.encoder, self.max_streams = step, max_streams
        self.frontend = StreamingFrontend(model)
        self.window = (step.window(1) - 1) * self.frontend.hop + self.frontend.window
        self.shift = step.shift * self.frontend.hop
        self.streams: dict[int, _Stream] = {}
        self._next = 0
        # A row for each stream, in the order of ``streams``.
        self._first = step.initial_first(0)
        self._caches = step.initial_caches(0)

    @property
    def bytes_per_stream(self) -> int:
        """Memory of the caches of one stream."""
        return sum(cache.nbytes for cache in self.encoder.initial_caches(1))

    @torch.no_grad()
    def open(self) -> int:
        """Start a stream and return its number; raises ValueError when ``max_streams`` are open."""
        if len(self.streams) == self.max_streams:
            raise ValueError(f"{self.max_streams} streams are open already: close one, or make a larger pool")
        self._first = torch.cat((self._first, self.encoder.initial_first(1)))
        self._caches = tuple(torch.cat(pair) for pair in zip(self._caches, self.encoder.initial_caches(1)))
        self.streams[self._next] = _Stream(self.frontend, self.encoder.lead * self.encoder.stride, self._first.device)
        self._next += 1
        return self._next - 1

    def push(self, stream: int, samples: torch.Tensor, final: bool = False) -> None:
        """Give a stream its next samples (N,), N >= 0; final: none follow.

        Raises KeyError for a stream that is not open, ValueError after its final samples.
        """
        self.streams[stream].push(samples, final)

    def close(self, stream: int) -> None:
        """Drop a stream before its end; raises KeyError for one that is not open. Streams close themselves at their end."""
        rows = [row for row, number in enumerate(self.streams) if number != stream]
        del self.streams[stream]
        self._keep(rows)

    @torch.no_grad()
    def step(self) -> dict[int, Encoded]:
        """Compute a chunk of every stream that has the audio for it; nothing when none has.

        Streams whose last frames are returned are closed.
        """
        ready = [row for row, s in enumerate(self.streams.values()) if s.num_ready >= self.window or s.ended]
        if not ready:
            return {}
        numbers = list(self.streams)
        streams = [self.streams[numbers[row]] for row in ready]
        out = self._compute(ready, streams)
        results, rows = {}, set(range(len(numbers)))
        for row, stream, frames in zip(ready, streams, out):
            begin = stream.computed - self.encoder.delay
            stream.computed += self.encoder.chunk
            stream.drop(self.shift)
            last = self._last(stream)
            final = last is not None and begin + self.encoder.chunk >= last
            frames = frames[max(-begin, 0) : None if last is None else max(last - begin, 0)]
            # A copy, so that nobody who keeps it keeps the whole batch.
            results[numbers[row]] = Encoded(frames.clone(), final)
            if final:
                rows.remove(row)
                del self.streams[numbers[row]]
        if len(rows) < len(numbers):
            self._keep(sorted(rows))
        return results

    def _compute(self, ready: list[int], streams: list["_Stream"]) -> torch.Tensor:
        samples = torch.stack([stream.window(self.window) for stream in streams])
        rate, lead = self.encoder.rates[0], self.encoder.lead
        ends = [
            NO_END if not s.ended else self._num_frames(s) - s.computed * rate + lead for s in streams
        ]  # Python's numbers, of which there is no largest; what enters is a distance.
        end = torch.tensor(ends, device=self._first.device)
        feats = self.frontend.features(samples)
        if len(ready) == len(self.streams):
            out, self._first, self._caches = self.encoder(feats, self._first, end, self._caches)
            return out
        rows = torch.tensor(ready, device=self._first.device)
        caches = tuple(cache.index_select(0, rows) for cache in self._caches)
        out, first, caches = self.encoder(feats, self._first[rows], end, caches)
        for old, new in zip((self._first, *self._caches), (first, *caches)):
            old.index_copy_(0, rows, new)
        return out

    def _num_frames(self, stream: "_Stream") -> int:
        return int(self.encoder.num_frames(torch.tensor(stream.num_feats)))

    def _last(self, stream: "_Stream") -> int | None:
        return -(-self._num_frames(stream) // self.encoder.rates[0]) if stream.ended else None

    def _keep(self, rows: list[int]) -> None:
        index = torch.tensor(rows, dtype=torch.long, device=self._first.device)
        self._first = self._first[index]
        self._caches = tuple(cache.index_select(0, index) for cache in self._caches)


class _Stream:
    """Audio of one stream that is not computed yet, mirrored at both ends where the STFT is centred.

    computed: encoder frames that the chunks so far hold.
    """

    def __init__(self, frontend: StreamingFrontend, num_lead: int, device: torch.device) -> None:
        self.size, self.hop, self.margin = frontend.window, frontend.hop, frontend.margin
        # What stands before the stream is never seen; it only moves the chunks.
        self.waiting = torch.zeros(num_lead * self.hop, device=device)
        self.beginning = self.tail = self.waiting[:0]
        self.num_samples = self.computed = 0
        self.ended = False
        self.mirrored = self.margin == 0

    def push(self, samples: torch.Tensor, final: bool) -> None:
        if self.ended:
            raise ValueError("samples after the final ones: open a new stream")
        samples = samples.to(self.waiting)
        self.num_samples += len(samples)
        self.ended = final
        if not self.mirrored:
            self.beginning = torch.cat((self.beginning, samples))
            if len(self.beginning) <= self.margin:
                return
            samples, self.mirrored = self.beginning, True
            samples = torch.cat((samples[1 : self.margin + 1].flip(0), samples))
        if self.margin:
            self.tail = torch.cat((self.tail, samples))[-self.margin - 1 :].clone()
        if self.margin and final:
            samples = torch.cat((samples, self.tail[:-1].flip(0)))
        self.waiting = torch.cat((self.waiting, samples))

    @property
    def num_ready(self) -> int:
        """Samples that windows may use."""
        return len(self.waiting) if self.mirrored else 0

    @property
    def num_feats(self) -> int:
        """Feature frames of the whole stream, once it has ended."""
        num = self.num_samples + 2 * self.margin
        return max((num - self.size) // self.hop + 1, 0) if self.mirrored else 0

    def window(self, num: int) -> torch.Tensor:
        """First ``num`` waiting samples, with zeros where the stream has ended before."""
        return F.pad(self.waiting[:num], (0, max(num - len(self.waiting), 0)))

    def drop(self, num: int) -> None:
        # A copy, since a view would keep all that was ever waiting.
        self.waiting = self.waiting[num:].clone()
