"""Search over the tokens of a CIF recogniser, as they fire: offline decoding is the same with all frames at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from espnet2_kd.asr.decoder.cif_decoder import Prefix
from espnet2_kd.asr.hypothesis import Hypothesis
from espnet2_kd.layers.cif import CIFLayerState
from espnet2_kd.ops.cif import fire_frames


@dataclass(frozen=True)
class Beam:
    """Hypotheses of one utterance: those with a label for every token so far, and those that came to their end."""

    active: tuple[Hypothesis, ...] = (Hypothesis(),)
    ended: tuple[Hypothesis, ...] = ()

    def best(self, num: int) -> list[Hypothesis]:
        """The best of them by score per choice; the end is a choice."""
        ranked = [(hyp.score / (len(hyp.tokens) + 1), hyp) for hyp in self.ended]
        ranked += [(hyp.score / max(len(hyp.tokens), 1), hyp) for hyp in self.active]
        return [hyp for _, hyp in sorted(ranked, key=lambda pair: pair[0], reverse=True)[:num]]


@dataclass(frozen=True)
class Memory:
    """What is known of all active hypotheses of a batch of utterances, a row each.

    rows: which utterance each belongs to.
    prefix: the decoder's.
    lm_states: the language model's.
    before: the last token of each utterance (B, D).
    """

    rows: list[int]
    prefix: Prefix
    lm_states: list[Any]
    before: torch.Tensor

    def select(self, rows: list[int]) -> "Memory":
        """Some of the rows, or some of them several times."""
        return Memory(
            [self.rows[n] for n in rows],
            tuple(x[rows] for x in self.prefix),
            [self.lm_states[n] for n in rows],
            self.before,
        )


@dataclass(frozen=True)
class CIFSearchState:
    """What the search carries from chunk to chunk of one stream.

    num_frames: frames consumed.
    cif: state of the CIF layer.
    kept: tokens and their frames that wait for the end, where the decoder sees later ones (U, D), (U,).
    """

    num_frames: int
    cif: CIFLayerState
    beam: Beam
    memory: Memory = field(repr=False)
    kept: tuple[torch.Tensor, torch.Tensor] = field(repr=False)


class CIFSearch:
    """Beam search with a label for every token that fires; a beam of 1 is greedy search.

    A hypothesis that chooses the end of the sentence ends there, and its place in the beam becomes free; the others end with
    the last token. The score sums the log-probabilities of all choices, the end included, and those of the language model
    times its weight. Hypotheses are ranked by their score per choice, which among those that use up all tokens is their
    order by score.

    model: ``CIFASRModel`` in evaluation mode.
    beam_size: hypotheses that go on after every token, and of the result.
    lm: an ESPnet2 language model over the same labels, or None.
    lm_weight: its weight; 0.2 in HieraDist.
    """

    def __init__(
        self, model: torch.nn.Module, beam_size: int = 1, lm: torch.nn.Module | None = None, lm_weight: float = 0.0
    ) -> None:
        if beam_size < 1:
            raise ValueError(f"beam_size={beam_size}: must be at least 1")
        self.cif, self.decoder = model.cif, model.decoder
        self.sos, self.eos = model.sos, model.eos
        self.forbidden = [model.blank_id] + ([] if model.cif_eos else [model.eos])
        self.beam_size = beam_size
        self.lm, self.lm_weight = lm, lm_weight

    @torch.no_grad()
    def start(self) -> CIFSearchState:
        """Return the state before the first frame."""
        memory = self._memory(1)
        kept = memory.before[:0], torch.zeros(0, dtype=torch.long, device=memory.before.device)
        return CIFSearchState(0, self.cif.initial_state(1), Beam(), memory, kept)

    @torch.no_grad()
    def advance(self, enc: torch.Tensor, state: CIFSearchState, final: bool = False) -> CIFSearchState:
        """Return the state after the frames ``enc`` ``(T, D)``, T may be 0; ``final``: none follow, the rest may fire."""
        tokens, cif = self.cif.forward_chunk(enc[None].to(state.memory.before), state.cif, final)
        lens = torch.full_like(tokens.lens, tokens.alpha.shape[1])
        frames = fire_frames(tokens.alpha, lens, tokens.lens, start=state.cif.fire.mass, threshold=self.cif.threshold)
        # A tail may fire when no frame is left to be weighed.
        fired, frames = tokens.fired[0], (frames[0] + state.cif.weighed).clamp(max=cif.weighed - 1)
        state = replace(state, num_frames=state.num_frames + len(enc), cif=cif)
        if not self.decoder.causal:
            fired, frames = (torch.cat(pair) for pair in zip(state.kept, (fired, frames), strict=True))
            if not final:
                return replace(state, kept=(fired, frames))
        beams, memory = self._label([state.beam], state.memory, fired[None], [len(fired)], [frames.tolist()])
        return replace(state, beam=beams[0], memory=memory)

    def result(self, state: CIFSearchState) -> list[Hypothesis]:
        """Return the hypotheses so far, best first."""
        return state.beam.best(self.beam_size)

    def alive(self, state: CIFSearchState) -> list[Hypothesis]:
        """Return the hypotheses of which every later result is one, or goes on."""
        return [*state.beam.active, *state.beam.ended]

    @torch.no_grad()
    def decode(self, enc: torch.Tensor, lens: Sequence[int]) -> list[list[Hypothesis]]:
        """Decode a padded batch ``(B, T, D)`` with ``lens`` ``(B,)``; equals one utterance at a time."""
        memory = self._memory(len(enc))
        num_frames = torch.as_tensor(lens, device=memory.before.device)
        tokens = self.cif(enc.to(memory.before), num_frames)
        frames = fire_frames(tokens.alpha, num_frames, tokens.lens, threshold=self.cif.threshold)
        beams = [Beam()] * len(enc)
        beams, _ = self._label(beams, memory, tokens.fired, tokens.lens.tolist(), frames.tolist())
        return [beam.best(self.beam_size) for beam in beams]

    def _memory(self, batch_size: int) -> Memory:
        before = self.cif.linear.weight.new_zeros(batch_size, self.cif.linear.in_features)
        return Memory(list(range(batch_size)), self.decoder.start(batch_size), [None] * batch_size, before)

    def _label(
        self, beams: list[Beam], memory: Memory, fired: torch.Tensor, lens: list[int], frames: list[list[int]]
    ) -> tuple[list[Beam], Memory]:
        """Label the next tokens (B, U, D), ``lens`` of each utterance; the memory is that of the longest ones."""
        beams = list(beams)
        all_at_once = None
        if not self.decoder.causal and fired.shape[1]:
            num = torch.tensor(lens, device=fired.device)
            all_at_once = self.decoder(fired, num, None, num)[0].float().log_softmax(-1)
        for i in range(fired.shape[1]):
            memory = memory.select([n for n, b in enumerate(memory.rows) if i < lens[b]])
            if not memory.rows:
                break
            utts = sorted(set(memory.rows))
            hyps = [hyp for b in utts for hyp in beams[b].active]
            if all_at_once is None:
                log_probs, memory = self._step(hyps, fired[:, i], memory)
            else:
                log_probs = all_at_once[memory.rows, i]
            scores, memory = self._scores(hyps, log_probs, memory)
            parents: list[int] = []
            for b in utts:
                mine = [n for n, row in enumerate(memory.rows) if row == b]
                beams[b], chosen = self._choose(beams[b], scores[mine], frames[b][i])
                parents += [mine[0] + row for row in chosen]
            memory = replace(memory.select(parents), before=fired[:, i])
        return beams, memory

    def _step(self, hyps: list[Hypothesis], fired: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        labels = torch.tensor([hyp.tokens[-1] if hyp.tokens else self.sos for hyp in hyps], device=fired.device)
        log_probs, prefix = self.decoder.step(fired[memory.rows], memory.before[memory.rows], labels, memory.prefix)
        return log_probs, replace(memory, prefix=prefix)

    def _scores(self, hyps: list[Hypothesis], log_probs: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Scores (N, V) of every hypothesis with one more label."""
        scores = log_probs.double()
        if self.lm is not None:
            labels = torch.tensor([(self.sos, *hyp.tokens) for hyp in hyps], device=log_probs.device)
            lm_scores, lm_states = self.lm.batch_score(labels, memory.lm_states, log_probs)
            scores = scores + self.lm_weight * lm_scores.double()
            memory = replace(memory, lm_states=lm_states)
        scores[:, self.forbidden] = -math.inf
        return scores + scores.new_tensor([hyp.score for hyp in hyps])[:, None], memory

    def _choose(self, beam: Beam, scores: torch.Tensor, frame: int) -> tuple[Beam, list[int]]:
        """The best extensions of one utterance, and which hypotheses those that go on come from."""
        active, ended, parents = [], list(beam.ended), []
        top, order = scores.flatten().topk(min(self.beam_size, scores.numel()))
        for score, choice in zip(top.tolist(), order.tolist(), strict=True):
            row, token = divmod(choice, scores.shape[1])
            if score == -math.inf:
                break
            if token == self.eos:
                ended.append(replace(beam.active[row], score=score))
            else:
                active.append(beam.active[row].extend(token, score, frame))
                parents.append(row)
        return Beam(tuple(active), tuple(Beam((), tuple(ended)).best(self.beam_size))), parents
