"""Encoder frames of audio streams, piece by piece."""

import torch

from espnet2_kd.asr.encoder.chunk_conformer import ChunkConformerEncoder, EncoderState
from espnet2_kd.asr.encoder.chunk_step import ChunkStep, StepState
from espnet2_kd.asr.framing import encoder_frame_ms, fewest_samples
from espnet2_kd.asr.streaming_frontend import StreamingFrontend


def make_step(model: torch.nn.Module, quantize: bool = False) -> ChunkStep | None:
    """Return the streaming step of an ``ESPnetASRModel``'s encoder, None where it has no chunks or no bounded past.

    quantize: 8-bit linear layers; raises ValueError where they cannot be had.
    """
    encoder = model.encoder
    bounded = isinstance(encoder, ChunkConformerEncoder) and encoder.context.left is not None
    if bounded:
        return ChunkStep(encoder, quantize)
    if quantize:
        raise ValueError("8-bit streaming needs a chunk_conformer encoder with chunks and a bounded left context")
    return None


class StreamingEncoder:
    """Front-end and encoder of an ``ESPnetASRModel`` on audio as it arrives, equal to ``model.encode`` of the whole.

    A model with full context, or with an encoder that is not a ChunkConformerEncoder, is ``offline``: all its frames
    come with the final piece. Memory does not grow with the stream as long as the left context is bounded and the mode
    is ``streaming``; with it the time per chunk is constant too.

    quantize: 8-bit linear layers in the encoder, on the CPU; frames are then close to, not equal to ``model.encode``.
    step: one made before of the same model, to share between streams: it holds a copy of the encoder's weights.

    mode: ``streaming`` or ``offline``.
    lens: frames returned so far that belong to each stream (B,).

    Raises ValueError for a model in training mode, for one whose features cannot be computed piece by piece, and for
    ``quantize`` where there is no ChunkStep for the model.
    """

    def __init__(self, model: torch.nn.Module, quantize: bool = False, step: ChunkStep | None = None) -> None:
        if model.training:
            raise ValueError("streaming needs the model in evaluation mode: call model.eval() first")
        self.model = model
        encoder = model.encoder
        streams = isinstance(encoder, ChunkConformerEncoder) and not encoder.context.full
        self.mode = "streaming" if streams else "offline"
        self.step = make_step(model, quantize) if step is None else step
        if self.step is not None and self.step.context != encoder.context:
            raise ValueError("the encoder's context is not that of the step: make the step anew")
        self.frontend: StreamingFrontend | None = None
        if streams:
            self.frontend = StreamingFrontend(model)
            shift = self.frontend.frame_shift_ms
            if encoder.sizes_in_ms and abs(shift - encoder.frame_shift_ms) > 1e-6:
                raise ValueError(
                    f"encoder_conf gives times for frame_shift_ms={encoder.frame_shift_ms:g}, but the front-end's frames are "
                    f"{shift:g} ms apart: set frame_shift_ms to that"
                )
        self.reset()

    def reset(self) -> None:
        """Start new streams, of any batch size."""
        self.state: EncoderState | StepState | None = None
        self.pieces: list[torch.Tensor] = []
        self.num_samples: torch.Tensor | None = None
        self.lens: torch.Tensor | None = None
        self.finished = False
        if self.frontend is not None:
            self.frontend.reset()

    @property
    def frame_ms(self) -> float:
        """Time between two encoder frames."""
        if self.frontend is None:
            return encoder_frame_ms(self.model)
        return self.model.encoder.stride * self.frontend.frame_shift_ms

    @property
    def chunk_ms(self) -> float | None:
        """Length of a chunk, in which frames come out; None when offline."""
        return None if self.frontend is None else self.model.encoder.context.chunk * self.frame_ms

    @property
    def lookahead_ms(self) -> float | None:
        """Audio that must have arrived, from the start of a chunk on, before its frames come out; None when offline.

        The algorithmic latency of the first frame of a chunk: chunk, right context of all blocks, the reach of the
        subsampling and the window of the STFT. Computing time comes on top.
        """
        if self.frontend is None:
            return None
        encoder = self.model.encoder
        last_feature = encoder.last_feature(encoder.context.chunk + encoder.lookahead_frames - 1)
        return self.frontend.last_sample(last_feature) * 1000.0 / self.frontend.rate

    @torch.no_grad()
    def accept(self, samples: torch.Tensor, final: bool = False, lens: torch.Tensor | None = None) -> torch.Tensor:
        """Next samples (N,) or (B, N), N >= 0 -> encoder frames now final (B, T, D), T >= 0.

        final: no piece follows. Audio too short for one frame gives none, where ``model.encode`` raises.
        lens: valid samples of this piece (B,); a stream with fewer than N ends there. None: all are valid.

        Raises ValueError after the final piece until ``reset()``, and for another batch size than before.
        """
        if self.finished:
            raise ValueError("audio after the final piece: call reset() between utterances")
        device = next(self.model.parameters()).device
        samples = (samples[None] if samples.dim() == 1 else samples).to(device)
        if self.lens is None:
            self.lens = torch.zeros(len(samples), dtype=torch.long, device=device)
        if len(samples) != len(self.lens):
            raise ValueError(f"{len(samples)} streams after {len(self.lens)}: call reset() between batches")
        lens = torch.full_like(self.lens, samples.shape[1]) if lens is None else lens.to(self.lens)
        self.finished = final
        if self.frontend is None:
            return self._accept_offline(samples, lens, final)
        feats, feat_lens = self.frontend.accept(samples, lens, final)
        # Without a ChunkStep the past is unlimited, and so is what has to be kept of it.
        runner = self.model.encoder if self.step is None else self.step
        if self.state is None:
            self.state = runner.initial_state(len(samples))
        out, self.state = runner.forward_chunk(feats, self.state, final, feat_lens)
        self.lens = self.state.lens
        return out

    def _accept_offline(self, samples: torch.Tensor, lens: torch.Tensor, final: bool) -> torch.Tensor:
        self.pieces.append(samples)
        self.num_samples = lens if self.num_samples is None else self.num_samples + lens
        nothing = samples.new_zeros(len(samples), 0, self.model.encoder.output_size())
        if not final or int(self.num_samples.max()) < fewest_samples(self.model):
            return nothing
        out, self.lens = self.model.encode(torch.cat(self.pieces, dim=1), self.num_samples)
        self.pieces = []
        return out
