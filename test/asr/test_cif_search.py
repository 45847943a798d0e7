"""CIF search against all label sequences written out, and streams against the whole."""

import itertools
import math

import pytest
import torch
from espnet2.lm.transformer_lm import TransformerLM

from espnet2_kd.asr.search import build_search
from espnet2_kd.ops.cif import cif_fire, fire_frames

DECODERS = {
    "autoregressive": {},
    "parallel": {"autoregressive": False},
    "parallel, sees later tokens": {"autoregressive": False, "causal": False},
}


def frames(num, seed=1, batch=None, size=12):
    """Encoder frames (num, size), or (batch, num, size)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*([] if batch is None else [batch]), num, size, generator=generator)


def tokens_of(model, enc):
    tokens = model.cif(enc[None], torch.tensor([len(enc)]))
    return tokens.fired[:, : int(tokens.lens[0])]


@torch.no_grad()
def all_sequences(model, enc, lm=None, lm_weight=0.0):
    """Score of every label sequence, one choice after the other by the training path: {labels: (score, choices)}."""
    fired = tokens_of(model, enc)
    num = fired.shape[1]
    found = {}
    labels = [n for n in range(model.vocab_size) if n not in (model.blank_id, model.eos)]
    for length in range(num + 1):
        for said in itertools.product(labels, repeat=length):
            choices = [*said, model.eos] if length < num else list(said)
            if length < num and not model.cif_eos:
                continue
            before = torch.tensor([[model.sos, *said, *[model.eos] * num][:num]])
            log_probs = model.decoder(fired, torch.tensor([num]), before, None)[0][0].log_softmax(-1)
            score = sum(float(log_probs[i, choice]) for i, choice in enumerate(choices))
            if lm is not None:
                history = torch.tensor([[model.sos, *choices[:-1]]])
                lm_log_probs = lm(history, None)[0][0].log_softmax(-1)
                score += lm_weight * sum(float(lm_log_probs[i, choice]) for i, choice in enumerate(choices))
            found[said] = (score, len(choices))
    return found


def ranking(found):
    return sorted(found, key=lambda said: found[said][0] / max(found[said][1], 1), reverse=True)


@pytest.mark.parametrize("eos", [True, False])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_wide_beam_finds_the_best_of_all(cif_model, kind, eos):
    model = cif_model(decoder_conf=DECODERS[kind], cif_eos=eos)
    enc = frames(7)
    found = all_sequences(model, enc)
    assert 2 <= max(map(len, found)) <= 5  # few enough to be written out
    nbest = build_search(model, "beam", beam_size=600).decode(enc[None], [7])[0]
    assert [hyp.tokens for hyp in nbest[:50]] == ranking(found)[:50]
    for hyp in nbest:
        assert hyp.score == pytest.approx(found[hyp.tokens][0], abs=1e-4)


@torch.no_grad()
def test_greedy_takes_the_best_label_and_stops_at_the_end(cif_model):
    stopped = 0
    for seed in range(8):
        model = cif_model(seed)
        enc = frames(12, seed)
        fired, said, score = tokens_of(model, enc), [], 0.0
        num = fired.shape[1]
        for i in range(num):
            before = torch.tensor([[model.sos, *said, *[model.eos] * num][:num]])
            log_probs = model.decoder(fired, torch.tensor([num]), before, None)[0][0, i].log_softmax(-1)
            log_probs[0] = -math.inf
            score += float(log_probs.max())
            if int(log_probs.argmax()) == model.eos:
                stopped += 1
                break
            said.append(int(log_probs.argmax()))
        (hyp,) = build_search(model, "greedy").decode(enc[None], [12])[0]
        assert hyp.tokens == tuple(said) and hyp.score == pytest.approx(score, abs=1e-4)
    assert 0 < stopped < 8


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_batches_equal_single_utterances(cif_model, kind, search):
    model = cif_model(decoder_conf=DECODERS[kind])
    enc, lens = frames(40, batch=5), [40, 3, 0, 25, 39]
    for b, n in enumerate(lens):
        enc[b, n:] = torch.nan
    searcher = build_search(model, search, beam_size=3)
    together = searcher.decode(enc, lens)
    for b, n in enumerate(lens):
        alone = searcher.decode(enc[b : b + 1, :n], [n])[0]
        assert [(hyp.tokens, hyp.frames) for hyp in alone] == [(hyp.tokens, hyp.frames) for hyp in together[b]]
        for one, other in zip(alone, together[b], strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
    assert together[2][0].tokens == () and len(together[0][0].tokens) > 1


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("piece", [1, 2, 5, 17, 60])
def test_streams_equal_the_whole(cif_model, kind, piece):
    model = cif_model(decoder_conf=DECODERS[kind])
    for num in (0, 1, 34, 40):
        enc = frames(num, seed=num)
        searcher = build_search(model, "beam", beam_size=3)
        state = searcher.start()
        for part in enc.split(piece) if num else []:
            state = searcher.advance(part, state)
        state = searcher.advance(enc[:0], state, final=True)
        whole = searcher.decode(enc[None], [num])[0]
        found = searcher.result(state)
        assert [(hyp.tokens, hyp.frames) for hyp in found] == [(hyp.tokens, hyp.frames) for hyp in whole]
        for one, other in zip(found, whole, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_tokens_come_out_as_they_fire(cif_model):
    model = cif_model(cif_eos=False, cif_conf={"lookahead": 0})
    searcher, enc = build_search(model, "greedy"), frames(40)
    whole = searcher.decode(enc[None], [40])[0][0]
    state = searcher.start()
    for t in range(40):
        state = searcher.advance(enc[t : t + 1], state)
        said = sum(frame <= t for frame in whole.frames[:-1])
        tokens = searcher.result(state)[0].tokens
        assert tokens == whole.tokens[: len(tokens)] and len(tokens) >= said


def test_language_model(cif_model):
    model = cif_model()
    torch.manual_seed(5)
    lm = TransformerLM(model.vocab_size, None, embed_unit=8, att_unit=8, head=2, unit=8, layer=1).eval()
    with torch.no_grad():
        lm.decoder.weight *= 6.0
    enc = frames(7)
    alone, found = all_sequences(model, enc), all_sequences(model, enc, lm, 0.7)
    nbest = build_search(model, "beam", beam_size=600, lm=lm, lm_weight=0.7).decode(enc[None], [7])[0]
    assert [hyp.tokens for hyp in nbest[:50]] == ranking(found)[:50] != ranking(alone)[:50]
    assert nbest[0].score == pytest.approx(found[nbest[0].tokens][0], abs=1e-4)
    several = build_search(model, "beam", beam_size=3, lm=lm, lm_weight=0.7)
    enc = frames(30, batch=3)
    for b, n in enumerate((30, 9, 21)):
        one, other = several.decode(enc[b : b + 1, :n], [n])[0], several.decode(enc, [30, 9, 21])[b]
        assert [hyp.tokens for hyp in one] == [hyp.tokens for hyp in other]


def test_settings_that_do_not_fit(cif_model):
    model = cif_model()
    with pytest.raises(ValueError, match="max_symbols"):
        build_search(model, "greedy", max_symbols=3)
    with pytest.raises(ValueError, match="beam_size=0"):
        build_search(model, "beam", beam_size=0)
    with pytest.raises(ValueError, match="leave out causal=False"):
        cif_model(decoder_conf={"causal": False})


@pytest.mark.parametrize("threshold", [1.0, 0.7])
def test_fire_frames(threshold):
    """A token fires in the first frame with which the weights make it up: fewer frames do not fire it."""
    torch.manual_seed(0)
    alpha, lens = torch.rand(4, 20) * torch.tensor([0.2, 0.6, 1.5, 3.0])[:, None], torch.tensor([20, 13, 1, 7])
    h = torch.ones(4, 20, 1)
    _, num = cif_fire(h, alpha, lens, threshold=threshold, tail=0.0)
    _, whole = cif_fire(h, alpha, lens, threshold=threshold, tail=None)
    found = fire_frames(alpha, lens, num, threshold=threshold)
    for b in range(4):
        for i in range(int(num[b])):
            t = int(found[b, i])
            if i == whole[b]:
                assert t == lens[b] - 1  # the tail
                continue
            fires = [
                int(cif_fire(h, alpha, torch.full_like(lens, n), threshold=threshold, tail=None)[1][b])
                for n in (t, t + 1)
            ]
            assert fires[0] <= i < fires[1]
