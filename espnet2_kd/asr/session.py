"""One stream of audio, as a program that listens wants it: samples in, text so far out."""

from __future__ import annotations

import torch

from espnet2_kd.asr.audio_input import Samples, plain_samples
from espnet2_kd.asr.latency import Step
from espnet2_kd.asr.live_decoder import LiveDecoder
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.asr.words import Word


class Session:
    """An utterance that is still being spoken.

        with recognizer.stream() as session:
            for piece in microphone:
                print(session.accept(piece))
        print(session.text)

    A model with full context says nothing before the end. Leaving the block without an error ends the utterance.

    Attributes:
        text: the words so far.
        step: what came of the last piece, with times; None before the first.

    Raises:
        ConfigError: see ``Recognizer.streaming_encoder``.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self._decoder = LiveDecoder(recognizer)
        self.step: Step | None = None
        self._ended = False

    @property
    def text(self) -> str:
        return "" if self.step is None else self.recognizer.text(self.step.hypothesis)

    @property
    def words(self) -> list[Word]:
        return [] if self.step is None else self.recognizer.words(self.step.hypothesis)

    def accept(self, samples: Samples) -> str:
        """Take the next samples ``(N,)`` at ``recognizer.rate`` Hz, N >= 0, and return the text so far.

        Raises ValueError after the end, and for samples that are not one channel.
        """
        if self._ended:
            raise ValueError("samples after the end of the utterance: begin another with stream()")
        self.step = self._decoder.accept(torch.from_numpy(plain_samples(samples)))
        return self.text

    def finish(self) -> str:
        """End the utterance and return its text; again, as often as one likes."""
        if not self._ended:
            self._ended = True
            self.step = self._decoder.accept(torch.zeros(0), final=True)
        return self.text

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if kind is None:
            self.finish()
