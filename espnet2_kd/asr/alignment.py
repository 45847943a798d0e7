"""Forced alignment of a transcript with the frames of a trained model."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchaudio.functional

from espnet2_kd.asr.framing import encoder_frame_ms, fewest_samples

METHODS = ("auto", "ctc", "transducer")


@dataclass(frozen=True)
class Alignment:
    """When each token of a transcript was said, according to a model.

    Attributes:
        tokens: labels without blank.
        frames: encoder frame at which each token is complete: its last frame by CTC, its emission by the transducer.
        score: natural log-probability of the best path.
        frame_ms: time between encoder frames.
    """

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    score: float
    frame_ms: float

    def end_ms(self, token: int) -> float:
        """Return the end of the last frame of a token, from the start of the audio."""
        return (self.frames[token] + 1) * self.frame_ms


@torch.no_grad()
def align(model: torch.nn.Module, speech: torch.Tensor, tokens: Sequence[int], method: str = "auto") -> Alignment:
    """Align ``tokens`` with ``speech`` ``(N,)`` by an ``ESPnetASRModel``.

    Args:
        model: model in evaluation mode.
        speech: samples.
        tokens: labels of the transcript.
        method: ``ctc``, ``transducer``, or ``auto``: CTC when the model has a CTC output, whose peaks stay closer to
            the sound than the free choice of a full-context transducer.

    Raises:
        ValueError: unknown method, or one the model has no output for; the transcript does not fit into the audio.
    """
    has_ctc = getattr(model, "ctc", None) is not None
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown, choose one of {', '.join(METHODS)}")
    if method == "auto":
        method = "ctc" if has_ctc else "transducer"
    if len(speech) < fewest_samples(model):
        raise ValueError("the audio is too short for a single encoder frame")
    device = next(model.parameters()).device
    speech = speech.to(device).unsqueeze(0)
    enc, lens = model.encode(speech, speech.new_full((1,), speech.size(1), dtype=torch.long))
    enc = enc[:, : int(lens[0])]
    if method == "ctc":
        if not has_ctc:
            raise ValueError("the model has no CTC output (ctc_weight: 0.0): align with the transducer")
        frames, score = ctc_best_path(model.ctc.log_softmax(enc)[0].float(), tokens, model.blank_id)
    else:
        if getattr(model, "joint_network", None) is None:
            raise ValueError("the model has no transducer: align with CTC")
        frames, score = transducer_best_path(*_lattice(model, enc, tokens))
    return Alignment(tuple(int(token) for token in tokens), frames, score, encoder_frame_ms(model))


def ctc_best_path(log_probs: torch.Tensor, tokens: Sequence[int], blank: int = 0) -> tuple[tuple[int, ...], float]:
    """Return the last frame of each token on the best CTC path, and the path's log-probability.

    Args:
        log_probs: ``(T, V)``.
        tokens: labels without blank.
        blank: index of blank.

    Raises:
        ValueError: fewer frames than labels and the blanks between equal neighbours.
    """
    tokens = [int(token) for token in tokens]
    if not tokens:
        return (), float(log_probs[:, blank].sum())
    needed = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
    if log_probs.size(0) < needed:
        raise ValueError(f"{len(tokens)} tokens need {needed} frames, the audio has {log_probs.size(0)}")
    targets = torch.tensor([tokens], dtype=torch.int32, device=log_probs.device)
    path, scores = torchaudio.functional.forced_align(log_probs.unsqueeze(0).contiguous(), targets, blank=blank)
    spans = torchaudio.functional.merge_tokens(path[0], scores[0], blank=blank)
    return tuple(span.end - 1 for span in spans), float(scores.sum())


def transducer_best_path(blank: torch.Tensor, label: torch.Tensor) -> tuple[tuple[int, ...], float]:
    """Return the emission frame of each label on the best path of a transducer lattice, and its log-probability.

    Viterbi over frames. Within a frame the best way to reach u is to enter at some v <= u and emit labels v..u-1, so
    the whole row is a running maximum of ``entry - labels_before`` instead of a loop over u.

    Args:
        blank: log-probability of blank at each node ``(T, U+1)``, T at least 1.
        label: log-probability of the next label ``(T, U)``.
    """
    num_frames, num_labels = label.shape
    blank, label = blank.double(), label.double()
    before = torch.nn.functional.pad(label.cumsum(1), (1, 0))
    entry = torch.full_like(before[0], -torch.inf)
    entry[0] = 0.0
    entered = torch.empty(num_frames, num_labels + 1, dtype=torch.long, device=label.device)
    for t in range(num_frames):
        best, entered[t] = torch.cummax(entry - before[t], dim=0)
        entry = best + before[t] + blank[t]
    score, came_from = float(entry[-1]), entered.tolist()
    frames: list[int] = []
    u = num_labels
    for t in reversed(range(num_frames)):
        v = came_from[t][u]
        frames.extend([t] * (u - v))
        u = v
    return tuple(reversed(frames)), score


def _lattice(model: torch.nn.Module, enc: torch.Tensor, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return blank ``(T, U+1)`` and next-label ``(T, U)`` log-probabilities for one utterance ``enc`` ``(1, T, D)``."""
    if enc.size(1) == 0:
        raise ValueError("the audio is too short for a single encoder frame")
    model.decoder.set_device(enc.device)
    labels = torch.tensor([[model.blank_id, *tokens]], dtype=torch.long, device=enc.device)
    logits = model.joint_network(enc.unsqueeze(2), model.decoder(labels).unsqueeze(1))
    log_probs = logits[0].float().log_softmax(-1)
    targets = labels[:, 1:].unsqueeze(-1).expand(enc.size(1), -1, 1)
    return log_probs[..., model.blank_id], log_probs[:, :-1].gather(2, targets).squeeze(-1)
