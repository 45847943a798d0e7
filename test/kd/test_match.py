"""Frames against word pieces, by loops in float64."""

import numpy as np
import pytest
import torch

from espnet2_kd.kd.distiller import Distiller
from espnet2_kd.kd.losses.attention import Attention
from espnet2_kd.kd.match import Interpolate, PadText, TokenPool, Utterance
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.term import parse_terms

FRAMES, WORDS = [7, 3, 1, 5], [4, 5, 2, 5]
SPANS = [
    [(0.0, 0.6), (0.6, 3.0), (3.0, 3.2), (3.2, 7.0)],
    [(0.0, 0.0), (0.0, 1.5), (1.5, 1.5), (1.5, 2.5), (2.5, 3.0)],
    [(0.0, 0.2), (0.2, 4.0)],  # the alignment says more than there is
    [(9.0, 9.5), (0.0, 2.0), (2.0, 3.0), (3.0, 4.0), (4.0, 5.0)],  # a piece that begins after the end
]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def probabilities(num, lens, seed):
    """Maps (B, num, num) whose valid rows sum to 1 over valid columns, as attention without padding."""
    x = random(len(lens), num, num, seed=seed)
    for b, n in enumerate(lens):
        x[b, :, n:] = -torch.inf
    return x.softmax(-1)


def spans():
    padded = torch.zeros(len(SPANS), max(WORDS), 2)
    for b, rows in enumerate(SPANS):
        padded[b, : len(rows)] = torch.tensor(rows)
    return padded


def features(poison=True):
    s, t = random(4, 7, 3, seed=1), random(4, 5, 6, seed=2)
    if poison:
        for x, lens in ((s, FRAMES), (t, WORDS)):
            for b, n in enumerate(lens):
                x[b, n:] = 1e6  # padding must not be heard
    return Seq(s, torch.tensor(FRAMES)), Seq(t, torch.tensor(WORDS), spans=spans())


def maps():
    return (
        Seq(probabilities(7, FRAMES, 3), torch.tensor(FRAMES)),
        Seq(probabilities(5, WORDS, 4), torch.tensor(WORDS), spans=spans()),
    )


def overlaps(b):
    """How much of each frame belongs to each word piece (N, T), by definition; the nearest frame where none does."""
    weights = np.zeros((WORDS[b], FRAMES[b]))
    for n, (begin, end) in enumerate(SPANS[b]):
        for t in range(FRAMES[b]):
            weights[n, t] = max(0.0, min(end, t + 1) - max(begin, t))
        if weights[n].sum() < 1e-3:
            weights[n] = 0
            weights[n, min(max(int((begin + end) / 2), 0), FRAMES[b] - 1)] = 1
    return weights


def by_frames(b):
    """Weights (T, N) of the positions of a text stretched to the frames, by numpy's linear interpolation."""
    num_frames, num_words = FRAMES[b], WORDS[b]
    where = np.linspace(0, num_words - 1, num_frames) if num_frames > 1 else [(num_words - 1) / 2]
    return np.stack([np.interp(where, np.arange(num_words), row) for row in np.eye(num_words)], axis=1)


def normalised(x):
    return x / x.sum(-1, keepdims=True)


def test_pad_text():
    s, t = features()
    a, b = PadText().features(s, t)
    assert a.lens.tolist() == b.lens.tolist() == [min(pair) for pair in zip(FRAMES, WORDS)]
    assert torch.equal(a.x, s.x[:, :5])
    map_a, map_b = PadText().maps(*maps(), True)
    assert map_a.x.shape == map_b.x.shape == (4, 5, 5)
    assert torch.equal(map_a.x, maps()[0].x[:, :5, :5])
    # The last word piece is kept: three frames meet pieces 0, 1 and 4 of five, one frame the second of two.
    for utt, kept in enumerate(([0, 1, 2, 3], [0, 1, 4], [1], [0, 1, 2, 3, 4])):
        num = len(kept)
        assert torch.equal(b.x[utt, :num], t.x[utt, kept])
        assert torch.equal(map_b.x[utt, :num, :num], maps()[1].x[utt][kept][:, kept])


def test_pad_text_without_mask():
    """As the paper's code: every padded frame counts; a teacher that was not run that far is refused."""
    s, t = features()
    with pytest.raises(ConfigError, match="7 frames, but the teacher gives 5 positions; set `pad_to`"):
        PadText(mask=False).features(s, t)
    a, b = PadText(mask=False).features(s, Seq(random(4, 9, 6), torch.tensor(WORDS)))
    assert a.lens.tolist() == b.lens.tolist() == [7] * 4
    assert a.x.shape[1] == b.x.shape[1] == 7


def test_texts_that_are_longer_than_the_speech_are_counted(caplog):
    """FRAMES and WORDS have two such utterances; a warning at the 1st, 10th, 100th of them, not with every batch."""
    match = PadText()
    for _ in range(20):
        match.features(*features())
    assert match.cut.num == 40
    assert [record.args[0] for record in caplog.records] == [2, 10]


def test_interpolate():
    s, t = features()
    a, b = Interpolate().features(s, t)
    assert a.x is s.x
    assert b.lens.tolist() == FRAMES
    for i, n in enumerate(FRAMES):
        expected = by_frames(i) @ t.x[i, : WORDS[i]].double().numpy()
        np.testing.assert_allclose(b.x[i, :n].numpy(), expected, rtol=1e-5)
    s, t = maps()
    for kind in (True, False):
        _, b = Interpolate().maps(s, t, kind)
        for i, n in enumerate(FRAMES):
            weights = by_frames(i)
            expected = weights @ t.x[i, : WORDS[i], : WORDS[i]].double().numpy() @ weights.T
            np.testing.assert_allclose(b.x[i, :n, :n].numpy(), normalised(expected) if kind else expected, atol=1e-6)


def test_token_pool():
    s, t = features()
    a, b = TokenPool().features(s, t)
    assert b.x is t.x
    assert a.lens.tolist() == WORDS
    for i, n in enumerate(WORDS):
        expected = normalised(overlaps(i)) @ s.x[i, : FRAMES[i]].double().numpy()
        np.testing.assert_allclose(a.x[i, :n].numpy(), expected, rtol=1e-5)
    s, t = maps()
    for kind in (True, False):
        a, _ = TokenPool().maps(s, t, kind)
        for i, n in enumerate(WORDS):
            share, rows = overlaps(i), normalised(overlaps(i))
            attention = s.x[i, : FRAMES[i], : FRAMES[i]].double().numpy()
            expected = normalised(rows @ attention @ share.T) if kind else rows @ attention @ rows.T
            np.testing.assert_allclose(a.x[i, :n, :n].numpy(), expected, atol=1e-6)
            if kind:
                np.testing.assert_allclose(a.x[i, :n, :n].sum(1), 1.0, rtol=1e-5)


def test_token_pool_wants_to_know_when_words_were_spoken():
    s, t = features()
    with pytest.raises(ConfigError, match="nobody says when the words were spoken; add `spans`"):
        TokenPool().features(s, Seq(t.x, t.lens))


def test_utterance():
    s, t = features()
    a, b = Utterance().features(s, t)
    assert a.lens is b.lens is None
    for i in range(4):
        torch.testing.assert_close(a.x[i], s.x[i, : FRAMES[i]].mean(0))
        torch.testing.assert_close(b.x[i], t.x[i, : WORDS[i]].mean(0))


@pytest.mark.parametrize("match", [PadText(), Interpolate(), TokenPool()])
def test_attention_by_definition(match):
    """Mean over the valid rows and columns of each utterance, and no gradient from anything else."""
    s, t = maps()
    x = s.x.clone().requires_grad_()
    a, b = match.maps(Seq(x, s.lens), t, True)
    found = Attention()({"x": a}, {"x": b})
    for i, n in enumerate(a.lens.tolist()):
        expected = (a.x[i, :n, :n] - b.x[i, :n, :n]).square().mean()
        torch.testing.assert_close(found[i], expected)
    found.sum().backward()
    for i, n in enumerate(FRAMES):
        assert x.grad[i, n:].eq(0).all()
        assert x.grad[i, :, n:].eq(0).all()


@pytest.mark.parametrize("match", [PadText(), Interpolate(), TokenPool(), Utterance()])
def test_batch_of_one_equals_batch_of_many(match):
    s, t = features()
    together = match.features(s, t)
    for b in range(4):
        n, m = FRAMES[b], WORDS[b]
        one = match.features(
            Seq(s.x[b : b + 1, :n], s.lens[b : b + 1]),
            Seq(t.x[b : b + 1, :m], t.lens[b : b + 1], spans=t.spans[b : b + 1, :m]),
        )
        for alone, side in zip(one, together):
            if alone.lens is None:
                torch.testing.assert_close(alone.x[0], side.x[b])
            else:
                num = int(alone.lens[0])
                assert num == int(side.lens[b])
                torch.testing.assert_close(alone.x[0, :num], side.x[b, :num])


@pytest.mark.parametrize("match", [PadText(), Interpolate(), TokenPool(), Utterance()])
def test_nothing_heard_or_nothing_said(match):
    s = Seq(random(2, 3, 4).requires_grad_(), torch.tensor([0, 3]))
    t = Seq(random(2, 2, 4), torch.tensor([2, 0]), spans=torch.zeros(2, 2, 2))
    a, b = match.features(s, t)
    assert a.x.isfinite().all() and b.x.isfinite().all()
    (a.x - b.x).masked_fill(~a.mask.reshape(*a.mask.shape, *[1] * (a.x.dim() - a.mask.dim())), 0.0).sum().backward()
    assert s.x.grad.isfinite().all()
    if a.lens is not None:
        assert a.lens.tolist() == b.lens.tolist() == [0, 0]


def term(**keys):
    spec = {"name": "a", "student": "decoder.layers.0", "loss": "mse", "weight": 1.0, **keys}
    return [{key: value for key, value in spec.items() if value is not None}]


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"match": "pool"}, "no match named 'pool'; did you mean token_pool"),
        ({"match": {"pad_text": {"masked": True}}}, "no keyword 'masked'"),
        ({"match": "pad_text", "loss": {"relation": {"num_heads": 2}}}, "`match` makes outputs of layers equally long"),
        ({"loss": "attention", "head": "projection"}, "attention maps are compared by themselves"),
        ({"loss": {"attention": {"kind": "logit"}}}, "kind 'logit': one of prob, score"),
        ({"match": "utterance", "per": "token"}, "one vector for an utterance"),
    ],
)
def test_terms_that_make_no_sense(keys, message):
    with pytest.raises(ConfigError, match=message):
        parse_terms(term(**keys))


TERM = {"name": "t", "student": "s"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"losses": None}, "`losses` names none"),
        ({"losses": ["mse"]}, r"losses: keywords are written"),
        ({"losses": {"mse": "sum"}}, "loss 'mse': keywords are written"),
        ({"losses": {"mse": {"weight": 1, 5: 6}}}, "loss 'mse' has no keyword 5"),
        ({"losses": {7: {"weight": 1}}}, "no loss named 7"),
        ({"loss": {"mse": "sum"}, "weight": 1}, "loss 'mse': keywords are written"),
        ({"loss": {"contrastive": {"temperature": "hot"}}, "weight": 1}, "temperature: float is expected, not 'hot'"),
        ({"loss": {"contrastive": {"num_negatives": 0.5}}, "weight": 1}, r"num_negatives: int \| None is expected"),
        ({"loss": {"future": {"shift": True}}, "weight": 1}, "shift: int is expected, not True"),
        (
            {"loss": "mse", "weight": {"warmup": {"weight": float("nan"), "steps": 5}}},
            "weight: float is expected, not nan",
        ),
        ({"loss": "mse", "weight": {"warmup": {"weight": 10**400, "steps": 5}}}, "weight: float is expected"),
        ({"loss": "mse", "weight": float("inf")}, "a finite number is expected, not inf"),
        (
            {"loss": "mse", "weight": "1e-3"},
            "weight: a number, or a schedule such as {warmup: {...}}, is expected, not '1e-3'",
        ),
        ({"loss": "mse", "weight": 1, "match": {"pad_text": [1]}}, "match 'pad_text': keywords are written"),
        ({"loss": "mse", "weight": 1, "match": {"pad_text": {"mask": 1}}}, "mask: bool is expected"),
        ({"loss": "mse", "weight": 1, "per": [1]}, "per: "),
        ({"loss": "mse", "weight": 1, 5: 6}, "unknown key 5"),
    ],
)
def test_values_of_another_kind_are_named(spec, message):
    with pytest.raises(ConfigError, match=rf"kd_terms\[1\].*{message}"):
        parse_terms([{**TERM, **spec}])


def test_terms_may_share_a_head():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (Seq(torch.randn(2, 3, d, generator=generator), torch.tensor([3, 2])) for d in (4, 6))
    one = {"name": "one", "student": "a", "teacher": "b", "head": "projection", "loss": "mse", "weight": 1.0}
    other = {**one, "name": "other", "head": {"same_as": {"term": "one"}}}
    taps = {"a": student}, {"b": teacher}
    shared = Distiller(parse_terms([one, other]), *taps)
    assert sum(p.numel() for p in shared.parameters()) == 4 * 6 + 6
    loss, stats = shared(taps)
    torch.testing.assert_close(stats["loss_kd_one"], stats["loss_kd_other"])
    torch.testing.assert_close(loss, 2 * stats["loss_kd_one"])
    with pytest.raises(ConfigError, match="same_as: no earlier term 'none'"):
        Distiller(parse_terms([one, {**other, "head": {"same_as": {"term": "none"}}}]), *taps)
    with pytest.raises(ConfigError, match="has no keyword 'name'|needs term|no earlier term None"):
        Distiller(parse_terms([one, {**other, "head": {"same_as": {"name": "one"}}}]), *taps)
