"""What a search finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """A decoded label sequence.

    Attributes:
        tokens: labels without blank and without the end of the sentence.
        score: natural log-probability as the search that made it defines it.
        frames: index of the encoder frame at which each token was emitted, counted from the start of the stream.
    """

    tokens: tuple[int, ...] = ()
    score: float = 0.0
    frames: tuple[int, ...] = ()

    def extend(self, token: int, score: float, frame: int) -> "Hypothesis":
        return Hypothesis((*self.tokens, token), score, (*self.frames, frame))
