"""When decoded tokens and words come out of a stream, and how late that is for the user."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from espnet2_kd.asr.hypothesis import Hypothesis
from espnet2_kd.asr.words import Word


@dataclass(frozen=True)
class Step:
    """What one piece of audio brought.

    Attributes:
        audio_ms: end of the piece, from the start of the audio.
        compute_ms: time spent on it.
        num_frames: encoder frames it completed.
        hypothesis: the best one so far.
    """

    audio_ms: float
    compute_ms: float
    num_frames: int
    hypothesis: Hypothesis


def done_ms(steps: Sequence[Step]) -> list[float]:
    """Return the time at which each piece of live audio is worked off, from the start of the audio.

    Work on a piece starts when the piece has been spoken and the piece before it is done, so a decoder slower than
    real time falls behind more and more.
    """
    times: list[float] = []
    for step in steps:
        times.append(max(step.audio_ms, times[-1] if times else 0.0) + step.compute_ms)
    return times


def token_ms(steps: Sequence[Step]) -> list[float]:
    """Return the time at which each token of the last hypothesis came out.

    That is the end of work on the piece from which on the hypothesis starts with this token and those before it, to
    stay: beam search may change its mind, greedy search never does.
    """
    times = done_ms(steps)
    final = steps[-1].hypothesis.tokens
    emitted = [times[-1]] * len(final)
    stable = len(final)
    for step, now in zip(reversed(steps), reversed(times)):
        stable = min(stable, common_prefix(step.hypothesis.tokens, final))
        emitted[:stable] = [now] * stable
    return emitted


def chunk_compute_ms(steps: Sequence[Step]) -> list[float]:
    """Return the compute time per chunk: of every piece that completed frames, with the pieces since the one before."""
    chunks, pending = [], 0.0
    for step in steps:
        pending += step.compute_ms
        if step.num_frames:
            chunks.append(pending)
            pending = 0.0
    return chunks


def emission_delays_ms(
    words: Sequence[Word], token_times: Sequence[float], reference: Sequence[str], reference_ends: Sequence[float]
) -> list[float]:
    """Return for every correctly recognised word how long after its end its last token came out.

    Args:
        words: decoded words.
        token_times: from ``token_ms``.
        reference: words of the transcript.
        reference_ends: end of each by forced alignment, in milliseconds.
    """
    matcher = difflib.SequenceMatcher(None, [word.text for word in words], list(reference), autojunk=False)
    delays = []
    for block in matcher.get_matching_blocks():
        for i in range(block.size):
            word = words[block.a + i]
            delays.append(token_times[word.last_token] - reference_ends[block.b + i])
    return delays


def summary(values: Iterable[float], percentiles: Sequence[int], mean: bool = False) -> dict[str, float] | None:
    """Return ``{"mean": ..., "p50": ...}``, None when there are no values."""
    values = np.asarray(list(values), dtype=np.float64)
    if values.size == 0:
        return None
    result = {"mean": float(values.mean())} if mean else {}
    result.update({f"p{p}": float(np.percentile(values, p)) for p in percentiles})
    return {name: round(value, 2) for name, value in result.items()}


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many elements at the beginning two sequences share."""
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            return i
    return min(len(a), len(b))
