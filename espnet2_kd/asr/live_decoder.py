"""Decodes one stream of audio as it arrives."""

import time

import torch

from espnet2_kd.asr.latency import Step, common_prefix
from espnet2_kd.asr.recognizer import Recognizer


class LiveDecoder:
    """One utterance, piece by piece: frames are searched as soon as the encoder completes them.

    With a full-context model that is at the end.

    Args:
        recognizer: model and search.

    Raises:
        ConfigError: see ``Recognizer.streaming_encoder``.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self.encoder = recognizer.streaming_encoder()
        self.state = recognizer.search.start()
        self.num_samples = 0

    @torch.no_grad()
    def accept(self, samples: torch.Tensor, final: bool = False) -> Step:
        """Take the next samples ``(N,)``, N may be 0; ``final`` says that none follow."""
        search = self.recognizer.search
        start = time.perf_counter()
        enc = self.encoder.accept(samples, final=final)[0]
        if enc.size(0) or final:
            self.state = search.advance(enc, self.state, final)
        hypothesis = search.result(self.state)[0]
        compute_ms = (time.perf_counter() - start) * 1000.0
        self.num_samples += samples.numel()
        audio_ms = self.num_samples * 1000.0 / self.recognizer.rate
        return Step(audio_ms, compute_ms, enc.size(0), hypothesis)

    @property
    def num_settled(self) -> int:
        """How many tokens at the beginning of the hypothesis no later audio can change."""
        alive = [hypothesis.tokens for hypothesis in self.recognizer.search.alive(self.state)]
        return min(common_prefix(alive[0], tokens) for tokens in alive)

    def run(self, samples: torch.Tensor, piece_size: int) -> list[Step]:
        """Decode samples ``(N,)`` in pieces of ``piece_size``, the last one final."""
        pieces = samples.split(piece_size) if samples.numel() else (samples,)
        return [self.accept(piece, final=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
