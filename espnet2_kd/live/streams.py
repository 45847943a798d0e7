"""What one model makes of one utterance, piece by piece."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from espnet2_kd.asr.framing import fewest_samples
from espnet2_kd.asr.hypothesis import Hypothesis
from espnet2_kd.asr.live_decoder import LiveDecoder
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.data.resample import StreamResampler
from espnet2_kd.tasks.intent_classifier import IntentClassifier

Found = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Answer:
    """What is known after a piece.

    found: `{"words": [{"text", "final", "end_ms"}, ...]}`, times from the start of the utterance, or
        `{"intents": [{"slot", "value", "probability"}, ...]}`.
    audio_ms: heard so far.
    compute_ms: time spent on that.
    """

    found: Found
    audio_ms: float
    compute_ms: float


class Stream(ABC):
    """One utterance; not for several threads at a time.

    rate: of the samples that come, in Hz.
    fs: of those that the model wants.
    """

    def __init__(self, rate: int, fs: int) -> None:
        self.rate = rate
        self.resampler = StreamResampler(rate, fs)
        self.num_samples = 0
        self.compute_ms = 0.0

    @property
    def audio_ms(self) -> float:
        return self.num_samples * 1000.0 / self.rate

    def accept(self, samples: np.ndarray, final: bool) -> Answer:
        """Take the next float32 samples `(N,)`, N >= 0; `final` says that none follow."""
        start = time.perf_counter()
        self.num_samples += len(samples)
        found = self._hear(self.resampler.accept(samples, final), final)
        self.compute_ms += (time.perf_counter() - start) * 1000.0
        return Answer(found, self.audio_ms, self.compute_ms)

    @abstractmethod
    def _hear(self, samples: np.ndarray, final: bool) -> Found:
        """Take samples at the model's rate; what is known by now."""


class WordStream(Stream):
    """Words of a recogniser that streams. Those that no later audio can change are final."""

    def __init__(self, recognizer: Recognizer, rate: int) -> None:
        super().__init__(rate, recognizer.rate)
        self.recognizer = recognizer
        self.decoder = LiveDecoder(recognizer)

    def _hear(self, samples: np.ndarray, final: bool) -> Found:
        hypothesis = self.decoder.accept(torch.from_numpy(samples), final).hypothesis
        num_settled = len(hypothesis.tokens) if final else self.decoder.num_settled
        frame_ms = self.decoder.encoder.frame_ms
        return {"words": describe_words(self.recognizer, hypothesis, frame_ms, num_settled, final, self.audio_ms)}


class WholeStream(Stream):
    """For a model that needs the whole utterance: it hears all of it again, now and then for a guess, and at the end.

    A guess is made when `guess_ms` of audio have come since the last, and twice the time that the last one took, so that
    guessing takes a third of the time at most; 0: only the end counts.
    """

    def __init__(self, rate: int, fs: int, guess_ms: float) -> None:
        super().__init__(rate, fs)
        self.guess_ms = guess_ms
        self.pieces: list[np.ndarray] = []
        self.found: Found = {}
        self.next_ms = guess_ms

    def _hear(self, samples: np.ndarray, final: bool) -> Found:
        self.pieces.append(samples)
        if final or (self.guess_ms and self.audio_ms >= self.next_ms):
            start = time.perf_counter()
            self.found = self._understand(np.concatenate(self.pieces), final)
            took_ms = (time.perf_counter() - start) * 1000.0
            self.next_ms = self.audio_ms + max(self.guess_ms, 2.0 * took_ms)
        return self.found

    @abstractmethod
    def _understand(self, samples: np.ndarray, final: bool) -> Found:
        """What an utterance, or its beginning, means to the model."""


class WholeWordStream(WholeStream):
    """Words of a recogniser with full context, none final before the end."""

    def __init__(self, recognizer: Recognizer, rate: int, guess_ms: float, frame_ms: float) -> None:
        super().__init__(rate, recognizer.rate, guess_ms)
        self.recognizer, self.frame_ms = recognizer, frame_ms
        self.found = {"words": []}

    def _understand(self, samples: np.ndarray, final: bool) -> Found:
        hypothesis = self.recognizer.decode([samples])[0][0]
        num_settled = len(hypothesis.tokens) if final else 0
        return {"words": describe_words(self.recognizer, hypothesis, self.frame_ms, num_settled, final, self.audio_ms)}


class IntentStream(WholeStream):
    """Intents of a classifier; none of what is too short for it."""

    def __init__(self, classifier: IntentClassifier, rate: int, guess_ms: float) -> None:
        super().__init__(rate, classifier.rate, guess_ms)
        self.classifier = classifier
        self.found = {"intents": []}

    def _understand(self, samples: np.ndarray, final: bool) -> Found:
        if len(samples) < fewest_samples(self.classifier.model):
            return {"intents": []}
        answers = self.classifier(samples).items()
        return {"intents": [{"slot": slot, "value": v, "probability": round(p, 4)} for slot, (v, p) in answers]}


def describe_words(
    recognizer: Recognizer,
    hypothesis: Hypothesis,
    frame_ms: float,
    num_settled: int,
    complete: bool,
    audio_ms: float,
) -> list[dict[str, Any]]:
    """Words as `Answer` has them.

    num_settled: tokens at the beginning that stay; the last word of all may still grow, unless the hypothesis is `complete`.
    """
    words: Sequence = recognizer.words(hypothesis)
    return [
        {
            "text": word.text,
            "final": word.last_token < num_settled and (complete or i + 1 < len(words)),
            "end_ms": round(min((hypothesis.frames[word.last_token] + 1) * frame_ms, audio_ms), 1),
        }
        for i, word in enumerate(words)
    ]
