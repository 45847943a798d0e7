"""ESPnet2's default front-end and global normalisation, piece by piece."""

import copy

import torch
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.global_mvn import GlobalMVN


class StreamingFrontend:
    """Feature frames of a batch of audio streams, equal to the model's own front-end on the whole batch.

    Every frame is computed once, by the model's front-end, as soon as its window has arrived. A centred STFT mirrors
    the audio at its beginning and, as ESPnet2 does in a padded batch, at the end of the longest stream.

    Raises ValueError for a model whose features cannot be computed piece by piece.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        _check_streamable(model)
        self.normalize = model.normalize
        # A copy, because here the mirroring is done outside the STFT.
        self.frontend = copy.deepcopy(model.frontend)
        stft = self.frontend.stft
        self.window, self.hop = stft.n_fft, stft.hop_length
        self.margin = stft.n_fft // 2 if stft.center else 0
        stft.center = False
        self.rate = int(self.frontend.logmel.mel_options["sr"])
        self.reset()

    @property
    def frame_shift_ms(self) -> float:
        """Time between two feature frames."""
        return self.hop * 1000.0 / self.rate

    def last_sample(self, frame: int) -> int:
        """Number of samples that must have arrived for feature frame ``frame``, counted from 0."""
        return frame * self.hop + self.window - self.margin

    def reset(self) -> None:
        """Start new streams."""
        self.waiting: torch.Tensor | None = None
        self.tail: torch.Tensor | None = None
        self.num_samples: torch.Tensor | None = None
        self.ended: torch.Tensor | None = None
        self.num_frames = 0
        self.mirrored = self.margin == 0

    def accept(self, samples: torch.Tensor, lens: torch.Tensor, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Next samples (B, N) -> features (B, T, F) and how many of the T belong to each stream (B,).

        lens: valid samples of this piece (B,); a stream with fewer than N ends there.
        """
        if self.waiting is None:
            self.waiting = self.tail = samples[:, :0]
            self.num_samples = torch.zeros_like(lens)
            self.ended = torch.zeros_like(lens, dtype=torch.bool)
        if (self.ended & (lens > 0)).any():
            raise ValueError("a stream that has ended gets further samples: call reset() between utterances")
        self.ended = self.ended | (lens < samples.shape[1]) | final
        self.num_samples = self.num_samples + lens
        # What follows the end of every stream is not part of the batch that the model would see.
        samples = samples[:, : int(lens.max())]
        self.waiting = torch.cat((self.waiting, samples), dim=1)
        if self.margin:
            self._mirror(samples, final)
        num = (self.waiting.shape[1] - self.window) // self.hop + 1 if self.mirrored else 0
        if num <= 0:
            return samples.new_zeros(len(samples), 0, self.frontend.output_size()), torch.zeros_like(lens)
        used = self.waiting[:, : (num - 1) * self.hop + self.window]
        self.waiting = self.waiting[:, num * self.hop :]
        return self.features(used), self._valid(num)

    def features(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples (B, N), N >= window, none mirrored and none padding -> all their feature frames (B, T, F)."""
        lens = torch.full((len(samples),), samples.shape[1], device=samples.device)
        feats, feat_lens = self.frontend(samples, lens)
        if self.normalize is not None:
            feats, _ = self.normalize(feats, feat_lens)
        return feats

    def _mirror(self, samples: torch.Tensor, final: bool) -> None:
        self.tail = torch.cat((self.tail, samples), dim=1)[:, -self.margin - 1 :]
        if not self.mirrored and self.waiting.shape[1] > self.margin:
            self.waiting = torch.cat((self.waiting[:, 1 : self.margin + 1].flip(1), self.waiting), dim=1)
            self.mirrored = True
        if self.mirrored and final:
            self.waiting = torch.cat((self.waiting, self.tail[:, :-1].flip(1)), dim=1)

    def _valid(self, num: int) -> torch.Tensor:
        """How many of the ``num`` frames just computed belong to each stream (B,)."""
        total = torch.div(self.num_samples + 2 * self.margin - self.window, self.hop, rounding_mode="floor") + 1
        left = torch.where(self.ended, total - self.num_frames, num).clamp(0, num)
        self.num_frames += num
        return left


def _check_streamable(model: torch.nn.Module) -> None:
    frontend, normalize = model.frontend, model.normalize
    if not isinstance(frontend, DefaultFrontend) or not frontend.apply_stft:
        raise ValueError(
            f"frontend {type(frontend).__name__} cannot run piece by piece: streaming needs `frontend: default` on audio"
        )
    enhancement = frontend.frontend
    if enhancement is not None and (enhancement.use_wpe or enhancement.use_beamformer):
        raise ValueError("dereverberation and beamforming need the whole utterance: streaming needs them switched off")
    if normalize is not None and not isinstance(normalize, GlobalMVN):
        raise ValueError(
            f"normalization {type(normalize).__name__} needs the whole utterance: streaming needs "
            "`normalize: global_mvn` or `normalize: null`"
        )
    for name in ("preencoder", "postencoder"):
        if getattr(model, name, None) is not None:
            raise ValueError(f"a model with a {name} cannot run piece by piece")
