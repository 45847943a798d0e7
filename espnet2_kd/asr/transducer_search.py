"""Greedy and beam search over encoder frames, as they come: offline decoding is the same with all frames at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from espnet2_kd.asr.hypothesis import Hypothesis
from espnet2_kd.asr.predictor import Prediction, Predictor

# Frames looked at with the same prediction at once; larger wastes work after an emission, smaller makes more calls.
WINDOW = 8


@dataclass(frozen=True)
class GreedyState:
    """What greedy search carries from chunk to chunk: frames consumed, the hypothesis, its prediction (one row)."""

    num_frames: int
    hypothesis: Hypothesis
    prediction: Prediction


class GreedySearch:
    """Take the most probable symbol at every step; what was emitted never changes.

    The score sums the log-probabilities of all decisions, blanks included. After ``max_symbols`` labels in one frame
    the search moves on without a decision (``max_symbols=1`` is the greedy search of ESPnet2).

    Args:
        predictor: prediction and joint network.
        max_symbols: labels per frame at most.
    """

    def __init__(self, predictor: Predictor, max_symbols: int = 3) -> None:
        _require_positive(max_symbols=max_symbols)
        self.predictor = predictor
        self.max_symbols = max_symbols

    @torch.no_grad()
    def start(self) -> GreedyState:
        """Return the state before the first frame."""
        return GreedyState(0, Hypothesis(), self.predictor.start(1))

    @torch.no_grad()
    def advance(self, enc: torch.Tensor, state: GreedyState, final: bool = False) -> GreedyState:
        """Return the state after the frames ``enc`` ``(T, D)``, T may be 0; ``state`` itself stays usable.

        Whether the frames are the last ones (``final``) does not matter to a transducer.
        """
        return self._advance(enc.unsqueeze(0), [enc.size(0)], [state])[0]

    def result(self, state: GreedyState) -> list[Hypothesis]:
        """Return the hypothesis so far as a list of one."""
        return [state.hypothesis]

    def alive(self, state: GreedyState) -> list[Hypothesis]:
        """Return the hypotheses of which every later result is one, or goes on."""
        return [state.hypothesis]

    @torch.no_grad()
    def decode(self, enc: torch.Tensor, lens: Sequence[int]) -> list[list[Hypothesis]]:
        """Decode a padded batch ``(B, T, D)`` with ``lens`` ``(B,)``; equals one utterance at a time."""
        states = self._advance(enc, [int(n) for n in lens], [self.start() for _ in range(enc.size(0))])
        return [self.result(state) for state in states]

    def _advance(self, enc: torch.Tensor, lens: list[int], states: list[GreedyState]) -> list[GreedyState]:
        batch = len(states)
        hypotheses = [state.hypothesis for state in states]
        prediction = Prediction.stack([state.prediction for state in states])
        # Windows may reach beyond the last frame; those positions are never read.
        enc = torch.nn.functional.pad(self.predictor.project(enc), (0, 0, 0, WINDOW))
        offsets = torch.arange(WINDOW, device=enc.device)
        position, symbols = [0] * batch, [0] * batch
        rows = [b for b in range(batch) if lens[b] > 0]
        while rows:
            index = torch.tensor(rows, device=enc.device)
            starts = torch.tensor([position[b] for b in rows], device=enc.device)
            window = enc[index.unsqueeze(1), starts.unsqueeze(1) + offsets]
            log_probs = self.predictor.log_probs(window, prediction.out[index].unsqueeze(1))
            best_scores, best = (x.tolist() for x in log_probs.max(-1))
            emitting, labels = [], []
            for b, scores, choices in zip(rows, best_scores, best):
                score, last = hypotheses[b].score, min(WINDOW, lens[b] - position[b])
                for i in range(last):
                    score += scores[i]
                    if choices[i] != self.predictor.blank:
                        break
                else:
                    hypotheses[b] = replace(hypotheses[b], score=score)
                    position[b], symbols[b] = position[b] + last, 0
                    continue
                frame = position[b] + i
                symbols[b] = symbols[b] + 1 if i == 0 else 1
                hypotheses[b] = hypotheses[b].extend(choices[i], score, states[b].num_frames + frame)
                emitting.append(b)
                labels.append(choices[i])
                if symbols[b] == self.max_symbols:
                    frame, symbols[b] = frame + 1, 0
                position[b] = frame
            if emitting:
                index = torch.tensor(emitting, device=enc.device)
                stepped = self.predictor.step(labels, prediction.select(index).state)
                prediction = prediction.put(index, stepped)
            rows = [b for b in rows if position[b] < lens[b]]
        each = torch.arange(batch, device=enc.device)
        return [
            GreedyState(states[b].num_frames + lens[b], hypotheses[b], prediction.select(each[b : b + 1]))
            for b in range(batch)
        ]


@dataclass(frozen=True)
class BeamState:
    """What beam search carries from chunk to chunk: frames consumed, the beam, and predictions by label sequence."""

    num_frames: int
    beam: tuple[Hypothesis, ...]
    predictions: dict[tuple[int, ...], Prediction] = field(repr=False)


class BeamSearch:
    """Time-synchronous beam search that adds up the alignments of equal label sequences.

    In every frame a hypothesis emits 0 to ``max_symbols`` labels and then blank; the score of a label sequence is the
    log of the summed probability of its alignments that stayed in the beam, so with a beam wide enough it is the
    negative transducer loss (restricted to ``max_symbols`` per frame). ``frames`` are those of the most probable
    alignment that met in the hypothesis. Final choice: score divided by the number of labels plus one, as ESPnet2 does.

    Args:
        predictor: prediction and joint network.
        beam_size: hypotheses kept after every frame, and expanded in every round within a frame.
        max_symbols: labels per frame at most.
        length_norm: False ranks the results by the plain score.
    """

    def __init__(
        self, predictor: Predictor, beam_size: int = 4, max_symbols: int = 3, length_norm: bool = True
    ) -> None:
        _require_positive(beam_size=beam_size, max_symbols=max_symbols)
        self.predictor = predictor
        self.beam_size = beam_size
        self.max_symbols = max_symbols
        self.length_norm = length_norm

    @torch.no_grad()
    def start(self) -> BeamState:
        """Return the state before the first frame."""
        return BeamState(0, (Hypothesis(),), {(): self.predictor.start(1)})

    @torch.no_grad()
    def advance(self, enc: torch.Tensor, state: BeamState, final: bool = False) -> BeamState:
        """Return the state after the frames ``enc`` ``(T, D)``, T may be 0; ``final`` as in ``GreedySearch``."""
        beam, predictions = list(state.beam), dict(state.predictions)
        for t, frame in enumerate(self.predictor.project(enc)):
            beam = self._advance_frame(frame, state.num_frames + t, beam, predictions)
            kept = {hyp.tokens for hyp in beam}
            # Extensions of the beam are likely to be asked for again in the next frame.
            predictions = {key: p for key, p in predictions.items() if key in kept or key[:-1] in kept}
        return BeamState(state.num_frames + enc.size(0), tuple(beam), predictions)

    def result(self, state: BeamState) -> list[Hypothesis]:
        """Return the hypotheses so far, best first."""
        return sorted(state.beam, key=self._rank, reverse=True)

    def alive(self, state: BeamState) -> list[Hypothesis]:
        """Return the hypotheses of which every later result is one, or goes on."""
        return list(state.beam)

    @torch.no_grad()
    def decode(self, enc: torch.Tensor, lens: Sequence[int]) -> list[list[Hypothesis]]:
        """Decode a padded batch ``(B, T, D)`` with ``lens`` ``(B,)``, one utterance after the other."""
        return [self.result(self.advance(x[: int(n)], self.start())) for x, n in zip(enc, lens)]

    def _rank(self, hyp: Hypothesis) -> float:
        return hyp.score / (len(hyp.tokens) + 1) if self.length_norm else hyp.score

    def _advance_frame(
        self,
        enc: torch.Tensor,
        frame: int,
        beam: list[Hypothesis],
        predictions: dict[tuple[int, ...], Prediction],
    ) -> list[Hypothesis]:
        blank = self.predictor.blank
        finished: dict[tuple[int, ...], Hypothesis] = {}
        active = beam
        for num_symbols in range(self.max_symbols + 1):
            out = self._predict(active, predictions)
            log_probs = self.predictor.log_probs(enc, out).double()
            scores = log_probs + log_probs.new_tensor([hyp.score for hyp in active]).unsqueeze(1)
            for hyp, score in zip(active, scores[:, blank].tolist()):
                _merge(finished, replace(hyp, score=score))
            if num_symbols == self.max_symbols:
                break
            scores[:, blank] = -math.inf
            vocab = scores.size(1)
            top, order = scores.flatten().topk(min(self.beam_size, len(active) * (vocab - 1)))
            active = [
                active[i // vocab].extend(i % vocab, score, frame) for score, i in zip(top.tolist(), order.tolist())
            ]
            worst = _nth_largest([hyp.score for hyp in finished.values()], self.beam_size)
            # What still has to pay for a blank cannot by itself enter a full beam whose last member is already better.
            # Stopping here drops only the little it could add to other alignments, and saves most of the rounds.
            active = [hyp for hyp in active if hyp.score > worst or hyp.tokens in finished]
            if not active:
                break
        return sorted(finished.values(), key=lambda hyp: hyp.score, reverse=True)[: self.beam_size]

    def _predict(self, hyps: list[Hypothesis], predictions: dict[tuple[int, ...], Prediction]) -> torch.Tensor:
        """Return the projected predictions ``(B, J)``, computing those not known yet in one batch."""
        new = [hyp.tokens for hyp in hyps if hyp.tokens not in predictions]
        if new:
            parents = Prediction.stack([predictions[tokens[:-1]] for tokens in new])
            stepped = self.predictor.step([tokens[-1] for tokens in new], parents.state)
            for row, tokens in zip(torch.arange(len(new), device=stepped.out.device).split(1), new):
                predictions[tokens] = stepped.select(row)
        return torch.cat([predictions[hyp.tokens].out for hyp in hyps])


def _merge(hypotheses: dict[tuple[int, ...], Hypothesis], hyp: Hypothesis) -> None:
    other = hypotheses.get(hyp.tokens)
    if other is not None:
        best = hyp if hyp.score > other.score else other
        low, high = sorted((hyp.score, other.score))
        hyp = replace(best, score=high + math.log1p(math.exp(low - high)))
    hypotheses[hyp.tokens] = hyp


def _nth_largest(values: list[float], n: int) -> float:
    return sorted(values)[-n] if len(values) >= n else -math.inf


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
