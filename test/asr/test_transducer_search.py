"""The searches against naive loops, all alignments written out, and ESPnet2's own searches."""

import math

import pytest
import torch
from espnet2.asr.decoder.transducer_decoder import TransducerDecoder
from espnet2.asr.transducer.beam_search_transducer import BeamSearchTransducer
from espnet2.asr_transducer.decoder.rnn_decoder import RNNDecoder
from espnet2.asr_transducer.decoder.stateless_decoder import StatelessDecoder
from espnet2.asr_transducer.joint_network import JointNetwork

from espnet2_kd.asr.hypothesis import Hypothesis
from espnet2_kd.asr.predictor import Predictor
from espnet2_kd.asr.rnnt_loss import RNNTLoss
from espnet2_kd.asr.search import build_search
from espnet2_kd.asr.transducer_search import BeamSearch, GreedySearch

SIZE = 6
DECODERS = {
    "lstm": lambda vocab: TransducerDecoder(vocab, "lstm", 1, SIZE),
    "gru2": lambda vocab: TransducerDecoder(vocab, "gru", 2, SIZE),
    "rnn": lambda vocab: RNNDecoder(vocab, embed_size=SIZE, hidden_size=SIZE, rnn_type="lstm", num_layers=2),
    "stateless": lambda vocab: StatelessDecoder(vocab, embed_size=SIZE),
}


def random_transducer(kind="lstm", vocab=5, seed=0, sharpness=8.0, blank_bias=0.0):
    """Random networks, sharpened so that different label histories give clearly different outputs."""
    torch.manual_seed(seed)
    decoder = DECODERS[kind](vocab).eval()
    joint = JointNetwork(vocab, 4, SIZE, joint_space_size=7).eval()
    with torch.no_grad():
        joint.lin_out.weight *= sharpness
        joint.lin_out.bias[0] += blank_bias
    return decoder, joint


def frames(num, seed=1, batch=None):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*([] if batch is None else [batch]), num, 4, generator=generator)


def lattice_log_probs(decoder, joint, enc, tokens):
    """Log-probabilities (T, U+1, V) by the training path: the whole label sequence at once."""
    decoder.set_device(enc.device)
    out = decoder(torch.tensor([[0, *tokens]]))
    return joint(enc.unsqueeze(1), out).log_softmax(-1)


@torch.no_grad()
def naive_greedy(decoder, joint, enc, max_symbols):
    """One decision at a time, the prediction network run again from the start of the labels each time."""
    tokens, emitted, score = [], [], 0.0
    for t in range(enc.size(0)):
        for _ in range(max_symbols):
            logp = lattice_log_probs(decoder, joint, enc[t : t + 1], tokens)[0, -1]
            score += float(logp.max())
            if int(logp.argmax()) == 0:
                break
            tokens.append(int(logp.argmax()))
            emitted.append(t)
    return Hypothesis(tuple(tokens), score, tuple(emitted))


@torch.no_grad()
def all_sequences(decoder, joint, enc, max_symbols):
    """Sum the probability of every alignment with at most max_symbols labels per frame, for every label sequence."""
    vocab = joint.lin_out.out_features
    totals, best = {}, {}

    def walk(t, symbols, tokens, emitted, score):
        if t == enc.size(0):
            totals[tokens] = totals.get(tokens, 0.0) + math.exp(score)
            best[tokens] = max(best.get(tokens, (-math.inf, ())), (score, emitted))
            return
        logp = lattice_log_probs(decoder, joint, enc[t : t + 1], tokens)[0, -1].tolist()
        walk(t + 1, 0, tokens, emitted, score + logp[0])
        if symbols < max_symbols:
            for k in range(1, vocab):
                walk(t, symbols + 1, (*tokens, k), (*emitted, t), score + logp[k])

    walk(0, 0, (), (), 0.0)
    return totals, best


def assert_same(one, other, tolerance=1e-4):
    assert [h.tokens for h in one] == [h.tokens for h in other]
    assert [h.frames for h in one] == [h.frames for h in other]
    assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=tolerance)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("max_symbols", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_equals_the_naive_loop(kind, max_symbols, seed):
    decoder, joint = random_transducer(kind, seed=seed, blank_bias=1.0)
    enc = frames(23, seed)
    search = GreedySearch(Predictor(decoder, joint), max_symbols)
    result = search.result(search.advance(enc, search.start()))
    assert_same(result, [naive_greedy(decoder, joint, enc, max_symbols)])
    assert 0 < len(result[0].tokens)


def test_greedy_emits_up_to_max_symbols_in_a_frame():
    decoder, joint = random_transducer(blank_bias=-100.0)
    search = GreedySearch(Predictor(decoder, joint), 3)
    hypothesis = search.result(search.advance(frames(4), search.start()))[0]
    assert hypothesis.frames == (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)


@pytest.mark.parametrize("kind", ["lstm", "stateless"])
def test_greedy_batch_equals_one_at_a_time(kind):
    decoder, joint = random_transducer(kind, blank_bias=1.0)
    lens = [17, 0, 1, 8, 9, 30]
    enc = frames(30, batch=len(lens))
    search = GreedySearch(Predictor(decoder, joint))
    alone = [search.result(search.advance(x[:n], search.start())) for x, n in zip(enc, lens)]
    for b, n in enumerate(lens):
        enc[b, n:] = float("nan")
    for one, batched in zip(alone, search.decode(enc, lens)):
        assert_same(one, batched)
    assert alone[1] == [Hypothesis()]


@pytest.mark.parametrize("kind", ["lstm", "gru2"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_with_one_symbol_equals_espnet2(kind, seed):
    decoder, joint = random_transducer(kind, vocab=9, seed=seed, blank_bias=1.0)
    enc = frames(40, seed)
    theirs = BeamSearchTransducer(decoder, joint, beam_size=1)(enc)[0]
    search = GreedySearch(Predictor(decoder, joint), 1)
    ours = search.result(search.advance(enc, search.start()))[0]
    assert list(ours.tokens) == theirs.yseq[1:]


@pytest.mark.parametrize("kind", ["lstm", "stateless"])
@pytest.mark.parametrize("max_symbols", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_wide_beam_sums_all_alignments(kind, max_symbols, seed):
    decoder, joint = random_transducer(kind, vocab=3, seed=seed, sharpness=3.0)
    enc = frames(3, seed)
    totals, best = all_sequences(decoder, joint, enc, max_symbols)
    search = BeamSearch(Predictor(decoder, joint), beam_size=1000, max_symbols=max_symbols, length_norm=False)
    results = search.result(search.advance(enc, search.start()))
    assert {h.tokens for h in results} == set(totals)
    for hypothesis in results:
        assert math.exp(hypothesis.score) == pytest.approx(totals[hypothesis.tokens], rel=1e-4)
    assert [h.score for h in results] == sorted((h.score for h in results), reverse=True)
    only_one_alignment = [h for h in results if len(h.tokens) == 3 * max_symbols]
    assert len(only_one_alignment) == 2 ** (3 * max_symbols)
    assert [h.frames for h in only_one_alignment] == [best[h.tokens][1] for h in only_one_alignment]


def test_wide_beam_score_is_the_transducer_loss():
    """With as many symbols per frame as a sequence has labels, no alignment of it is left out."""
    decoder, joint = random_transducer(vocab=3, sharpness=3.0)
    enc = frames(3)
    search = BeamSearch(Predictor(decoder, joint), beam_size=5000, max_symbols=4)
    scores = {h.tokens: h.score for h in search.result(search.advance(enc, search.start()))}
    for tokens in [(), (1,), (2, 1), (1, 1, 2), (2, 2, 1, 1)]:
        logits = lattice_log_probs(decoder, joint, enc, tokens)
        targets = torch.tensor([tokens], dtype=torch.int32).reshape(1, len(tokens))
        loss = RNNTLoss()(logits.unsqueeze(0), targets, torch.tensor([3]), torch.tensor([len(tokens)]))
        assert scores[tokens] == pytest.approx(-loss.item(), abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_beam_equals_espnet2_time_synchronous_decoding(seed):
    decoder, joint = random_transducer(vocab=8, seed=seed, sharpness=4.0, blank_bias=1.0)
    enc = frames(15, seed)
    theirs = BeamSearchTransducer(decoder, joint, beam_size=6, search_type="tsd", max_sym_exp=3)(enc)
    search = BeamSearch(Predictor(decoder, joint), beam_size=6, max_symbols=2)
    ours = search.result(search.advance(enc, search.start()))
    assert list(ours[0].tokens) == theirs[0].yseq[1:]
    assert ours[0].score == pytest.approx(theirs[0].score, abs=0.02)


def test_beam_ranks_by_score_per_label():
    predictor = Predictor(*random_transducer())
    state = BeamSearch(predictor).start()
    short, long = Hypothesis((1,), -3.0, (0,)), Hypothesis((1, 2, 3), -4.0, (0, 1, 2))
    state = type(state)(3, (short, long), {})
    assert BeamSearch(predictor).result(state) == [long, short]
    assert BeamSearch(predictor, length_norm=False).result(state) == [short, long]


@pytest.mark.parametrize("make", [GreedySearch, BeamSearch])
@pytest.mark.parametrize("kind", ["lstm", "stateless"])
@pytest.mark.parametrize("pieces", [[1] * 24, [4] * 6, [0, 5, 0, 18, 1, 0], [23, 1]])
def test_any_split_of_the_frames_gives_the_same(make, kind, pieces):
    decoder, joint = random_transducer(kind, vocab=8, blank_bias=1.0)
    enc = frames(24)
    search = make(Predictor(decoder, joint))
    whole = search.result(search.advance(enc, search.start()))
    state, previous = search.start(), ()
    for piece in enc.split(pieces):
        state = search.advance(piece, state)
        tokens = search.result(state)[0].tokens
        if make is GreedySearch:
            assert tokens[: len(previous)] == previous
        previous = tokens
    assert state.num_frames == 24
    assert_same(search.result(state), whole)
    assert len(whole[0].tokens) > 3


@pytest.mark.parametrize("make", [GreedySearch, BeamSearch])
def test_a_state_can_be_continued_twice(make):
    search = make(Predictor(*random_transducer("lstm", blank_bias=1.0)))
    state = search.advance(frames(10), search.start())
    first = search.result(search.advance(frames(6, seed=2), state))
    search.advance(frames(9, seed=3), state)
    assert search.result(search.advance(frames(6, seed=2), state)) == first


def test_predictions_kept_do_not_grow_with_the_stream():
    search = BeamSearch(Predictor(*random_transducer(vocab=8, blank_bias=1.0)), beam_size=3)
    state = search.start()
    for chunk in frames(120).split(10):
        state = search.advance(chunk, state)
        assert len(state.predictions) <= 3 * (1 + 3 * 3 * 8)
    assert len(search.result(state)[0].tokens) > 5


def test_configuration_is_checked():
    decoder, joint = random_transducer()
    model = torch.nn.Module()
    with pytest.raises(ValueError, match="neither a transducer"):
        build_search(model)
    model.decoder, model.joint_network, model.blank_id = decoder, joint, 0
    assert isinstance(build_search(model, "beam", beam_size=2), BeamSearch)
    assert isinstance(build_search(model, "greedy"), GreedySearch)
    with pytest.raises(ValueError, match="nucleus"):
        build_search(model, "nucleus")
    with pytest.raises(ValueError, match="no language model"):
        build_search(model, lm=torch.nn.Module())
    for values in ({"max_symbols": 0}, {"search": "beam", "beam_size": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            build_search(model, **values)
    with pytest.raises(TypeError, match="Linear"):
        Predictor(torch.nn.Linear(2, 2), joint)
