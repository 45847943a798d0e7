import itertools
import math

import pytest
import torch
from espnet2.asr_transducer.decoder.stateless_decoder import StatelessDecoder
from espnet2.asr_transducer.joint_network import JointNetwork

from espnet2_kd.asr.alignment import Alignment, align, ctc_best_path, transducer_best_path


def best_transducer_path(blank, label):
    """The best of all ways to place U labels on T frames, one by one."""
    num_frames, num_labels = label.shape
    best = (-math.inf, ())
    for places in itertools.combinations_with_replacement(range(num_frames), num_labels):
        score = sum(float(label[t, u]) for u, t in enumerate(places))
        score += sum(float(blank[t, sum(p <= t for p in places)]) for t in range(num_frames))
        best = max(best, (score, places))
    return best[1], best[0]


def best_ctc_path(log_probs, tokens, blank):
    """The best of all V^T frame labellings that collapse to the tokens."""
    num_frames, vocab = log_probs.shape
    best = (-math.inf, ())
    for path in itertools.product(range(vocab), repeat=num_frames):
        runs = [(key, [t for t, _ in group]) for key, group in itertools.groupby(enumerate(path), lambda pair: pair[1])]
        labels = [(key, frames[-1]) for key, frames in runs if key != blank]
        if [key for key, _ in labels] == list(tokens):
            score = sum(float(log_probs[t, k]) for t, k in enumerate(path))
            best = max(best, (score, tuple(frame for _, frame in labels)))
    return best[1], best[0]


@pytest.mark.parametrize("num_frames,num_labels", [(1, 0), (1, 3), (5, 0), (4, 3), (6, 2), (2, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_transducer_path_is_the_best_of_all(num_frames, num_labels, seed):
    torch.manual_seed(seed)
    blank = torch.randn(num_frames, num_labels + 1) * 3
    label = torch.randn(num_frames, num_labels) * 3
    frames, score = transducer_best_path(blank, label)
    expected_frames, expected_score = best_transducer_path(blank, label)
    assert frames == expected_frames
    assert score == pytest.approx(expected_score, abs=1e-5)


@pytest.mark.parametrize("tokens", [(), (1,), (2, 1), (1, 1), (3, 1, 3)])
@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_path_is_the_best_of_all(tokens, blank):
    torch.manual_seed(len(tokens))
    tokens = tuple(k if k != blank else 0 for k in tokens)
    log_probs = (torch.randn(5, 4) * 2).log_softmax(-1)
    frames, score = ctc_best_path(log_probs, tokens, blank)
    expected_frames, expected_score = best_ctc_path(log_probs, tokens, blank)
    assert frames == expected_frames
    assert score == pytest.approx(expected_score, abs=1e-4)


def test_a_transcript_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 tokens need 5 frames, the audio has 4"):
        ctc_best_path(torch.randn(4, 4).log_softmax(-1), (1, 1, 1))


class ToyCTC(torch.nn.Module):
    def log_softmax(self, enc):
        return enc[..., :5].log_softmax(-1)


class ToyModel(torch.nn.Module):
    """Encoder frames are projected means of 160 samples, at 8 kHz."""

    blank_id = 0

    def __init__(self, ctc: bool, transducer: bool):
        super().__init__()
        torch.manual_seed(3)
        self.encoder, self.frontend = torch.nn.Linear(1, 6), torch.nn.Module()
        self.frontend.fs = 8000
        self.ctc = ToyCTC() if ctc else None
        self.decoder = StatelessDecoder(5, embed_size=4)
        self.joint_network = JointNetwork(5, 6, 4, joint_space_size=8) if transducer else None

    def encode(self, speech, lens):
        frames = speech[:, : speech.size(1) // 160 * 160].unflatten(1, (-1, 160)).mean(-1, keepdim=True)
        return self.encoder(frames), lens // 160


@torch.no_grad()
def test_align_chooses_ctc_when_there_is_one():
    speech = torch.randn(1000)
    tokens = (2, 4)
    both, only_transducer, only_ctc = ToyModel(True, True), ToyModel(False, True), ToyModel(True, False)
    assert align(both, speech, tokens) == align(both, speech, tokens, "ctc") == align(only_ctc, speech, tokens)
    enc, _ = both.encode(speech.unsqueeze(0), torch.tensor([1000]))
    frames, score = ctc_best_path(both.ctc.log_softmax(enc)[0], tokens)
    assert align(both, speech, tokens) == Alignment(tokens, frames, score, 20.0)
    logp = only_transducer.joint_network(
        enc.unsqueeze(2), only_transducer.decoder(torch.tensor([[0, 2, 4]])).unsqueeze(1)
    )
    logp = logp[0].log_softmax(-1)
    expected = best_transducer_path(logp[..., 0], torch.stack([logp[:, 0, 2], logp[:, 1, 4]], 1))
    ours = align(only_transducer, speech, tokens)
    assert ours.frames == expected[0] and ours.score == pytest.approx(expected[1], abs=1e-4)
    assert ours == align(both, speech, tokens, "transducer")
    assert ours.end_ms(1) == (ours.frames[1] + 1) * 20.0
    with pytest.raises(ValueError, match="no CTC output"):
        align(only_transducer, speech, tokens, "ctc")
    with pytest.raises(ValueError, match="no transducer"):
        align(only_ctc, speech, tokens, "transducer")
    with pytest.raises(ValueError, match="viterbi"):
        align(both, speech, tokens, "viterbi")
    with pytest.raises(ValueError, match="too short"):
        align(only_transducer, speech[:100], tokens)
