"""Each loss against its definition, written as plain loops in float64."""

import math

import pytest
import torch

from espnet2_kd.kd.lattice import LatticeRows
from espnet2_kd.kd.losses import LOSSES, output_kl, relation
from espnet2_kd.kd.losses.future import Future
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq

LENS = [7, 4, 1]


def sigmoid_distance(a, b):
    """DistilHuBERT distance of two vectors, scalar by scalar."""
    dim = len(a)
    dot = sum(x * y for x, y in zip(a, b))
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return sum(abs(x - y) for x, y in zip(a, b)) / dim - math.log(1 / (1 + math.exp(-dot / norms)))


def softmax(row):
    top = max(row)
    exps = [math.exp(v - top) for v in row]
    return [e / sum(exps) for e in exps]


def kl(p, q):
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q))


def naive_distance(s, t, n):
    return sum(sigmoid_distance(s[i], t[i]) for i in range(n))


def naive_future(r, h, n, shift):
    return sum(sigmoid_distance(r[i], h[i + shift]) for i in range(n - shift))


def naive_relation(s, t, n, heads):
    total = 0.0
    for head in range(heads):
        for i in range(n):
            rows = []
            for x in (s, t):
                d = len(x[0]) // heads
                part = [frame[head * d : (head + 1) * d] for frame in x]
                rows.append(softmax([sum(a * b for a, b in zip(part[i], part[k])) / math.sqrt(d) for k in range(n)]))
            total += kl(rows[1], rows[0]) / heads
    return total


def naive_mse(s, t, n):
    return sum(sum((a - b) ** 2 for a, b in zip(s[i], t[i])) / len(s[i]) for i in range(n)) / n


def naive_l1(s, t, n):
    return sum(sum(abs(a - b) for a, b in zip(s[i], t[i])) / len(s[i]) for i in range(n)) / n


def naive_cosine(s, t, n):
    def cos(a, b):
        return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    return sum(1 - cos(s[i], t[i]) for i in range(n)) / n


def naive_output_kl(s, t, n, tau):
    soft = [[softmax([v / tau for v in row]) for row in x[:n]] for x in (s, t)]
    return sum(tau**2 * kl(q, p) for p, q in zip(*soft)) / n


CASES = {
    "distance": ({}, "x", naive_distance, 8),
    "mse": ({}, "x", naive_mse, 8),
    "l1": ({}, "x", naive_l1, 8),
    "cosine": ({}, "x", naive_cosine, 8),
    "output_kl": ({"temperature": 2.0}, "x", lambda s, t, n: naive_output_kl(s, t, n, 2.0), 8),
    "future": ({"shift": 2}, "future", lambda s, t, n: naive_future(s, t, n, 2), 8),
    "relation": ({"num_heads": 2}, "qkv", lambda s, t, n: 3 * naive_relation(s, t, n, 2), 6),
}


def make(width, seed=0, lens=LENS):
    generator = torch.Generator().manual_seed(seed)
    lens = torch.tensor(lens)
    return Seq(torch.randn(len(lens), int(lens.max()), width, generator=generator), lens)


def sides(reads, student, teacher):
    if reads == "qkv":
        return {k: student for k in "qkv"}, {k: teacher for k in "qkv"}
    return {reads: student}, {"x": teacher}


@pytest.mark.parametrize("name", CASES)
def test_value_is_the_definition(name):
    keywords, reads, naive, teacher_width = CASES[name]
    student, teacher = make(8, 1), make(teacher_width, 2)
    value = LOSSES.build({name: keywords}, "test")(*sides(reads, student, teacher))
    expected = [naive(student.x[b].double().tolist(), teacher.x[b].double().tolist(), n) for b, n in enumerate(LENS)]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_padding_cannot_matter(name):
    keywords, reads, _, teacher_width = CASES[name]
    loss = LOSSES.build({name: keywords}, "test")
    student, teacher = make(8, 1), make(teacher_width, 2)
    clean = loss(*sides(reads, student, teacher))
    poisoned = []
    for seq in (student, teacher):
        x = seq.x.clone()
        x[~seq.mask] = math.nan
        poisoned.append(Seq(x.requires_grad_(), seq.lens))
    value = loss(*sides(reads, *poisoned))
    torch.testing.assert_close(value, clean)
    value.sum().backward()
    assert torch.isfinite(poisoned[0].x.grad).all()


@pytest.mark.parametrize("name", CASES)
def test_batch_equals_one_at_a_time(name):
    keywords, reads, _, teacher_width = CASES[name]
    loss = LOSSES.build({name: keywords}, "test")
    student, teacher = make(8, 1), make(teacher_width, 2)
    together = loss(*sides(reads, student, teacher))
    for b, n in enumerate(LENS):
        alone = [Seq(seq.x[b : b + 1, :n], seq.lens[b : b + 1]) for seq in (student, teacher)]
        torch.testing.assert_close(loss(*sides(reads, *alone))[0], together[b])


@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_finite_differences(name):
    keywords, reads, naive, teacher_width = CASES[name]
    loss = LOSSES.build({name: keywords}, "test")
    student, teacher = make(8, 1, [4]), make(teacher_width, 2, [4])
    x = student.x.clone().requires_grad_()
    loss(*sides(reads, Seq(x, student.lens), teacher)).sum().backward()
    target = teacher.x[0].double().tolist()
    for t, d in [(0, 0), (1, 3), (2, 7), (3, 5)]:
        shifted = []
        for sign in (1, -1):
            moved = student.x[0].double().clone()
            moved[t, d] += sign * 1e-6
            shifted.append(naive(moved.tolist(), target, 4))
        assert x.grad[0, t, d].item() == pytest.approx((shifted[0] - shifted[1]) / 2e-6, rel=1e-3, abs=1e-5)


def test_distance_floor_is_softplus_of_minus_one():
    seq = make(8)
    value = LOSSES.build("distance", "test")({"x": seq}, {"x": seq})
    torch.testing.assert_close(value, torch.tensor(LENS) * math.log(1 + math.exp(-1)), rtol=1e-5, atol=1e-6)


def test_zero_vectors_have_finite_gradients():
    zeros = Seq(torch.zeros(1, 3, 8, requires_grad=True), torch.tensor([3]))
    for name in ("distance", "cosine"):
        LOSSES.build(name, "test")({"x": zeros}, {"x": make(8, 1, [3])}).sum().backward()
        assert torch.isfinite(zeros.x.grad).all()


@pytest.mark.parametrize("num_frames", [1, 3, 4])
def test_future_of_a_short_batch_is_zero_and_keeps_the_graph(num_frames):
    student = torch.randn(2, num_frames, 8, requires_grad=True)
    lens = torch.tensor([num_frames, 1])
    value = Future(shift=4)({"future": Seq(student, lens)}, {"x": Seq(torch.randn(2, num_frames, 8), lens)})
    assert value.tolist() == [0.0, 0.0]
    value.sum().backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_relation_direction_is_teacher_against_student():
    student, teacher = make(8, 1), make(8, 2)
    loss = LOSSES.build({"relation": {"num_heads": 2}}, "test")
    forward, backward = loss(*sides("qkv", student, teacher)), loss(*sides("qkv", teacher, student))
    assert not torch.allclose(forward[0], backward[0])


def autograd_relation(s, t, num_heads):
    """The definition of one utterance (T, D), differentiated by autograd."""
    logits = []
    for x in (s, t):
        heads = x.unflatten(1, (num_heads, -1)).transpose(0, 1)
        logits.append((heads @ heads.transpose(1, 2) / math.sqrt(heads.shape[2])).log_softmax(-1))
    return (logits[1].exp() * (logits[1] - logits[0])).sum() / num_heads


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("size", [1, 30, 1000])
def test_relation_in_slices_of_any_size(size, reduction, monkeypatch):
    monkeypatch.setattr(relation, "SLICE", {"cpu": size, "cuda": size})
    lens, weights = [7, 4, 0, 1], torch.tensor([1.0, -2.0, 5.0, 3.0])
    student, teacher = make(8, 1, lens), make(6, 2, lens)
    student.x.requires_grad_()
    loss = LOSSES.build({"relation": {"num_heads": 2, "reduction": reduction}}, "test")
    (loss(*sides("qkv", student, teacher)) * weights).sum().backward()
    wide = student.x.detach().double().requires_grad_()
    parts = [
        3 * weight * autograd_relation(wide[b, :n], teacher.x[b, :n].double(), 2) / (n if reduction == "mean" else 1)
        for b, (n, weight) in enumerate(zip(lens, weights))
        if n
    ]
    sum(parts).backward()
    torch.testing.assert_close(student.x.grad.double(), wide.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_relation_keeps_the_precision_it_is_given(dtype):
    student, teacher = (Seq(seq.x.to(dtype), seq.lens) for seq in (make(8, 1), make(6, 2)))
    student.x.requires_grad_()
    loss = LOSSES.build({"relation": {"num_heads": 2}}, "test")
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*sides("qkv", student, teacher))
    value.sum().backward()
    assert student.x.grad.dtype == dtype
    wide = [x.x.detach().double() for x in (student, teacher)]
    expected = [3 * autograd_relation(wide[0][b, :n], wide[1][b, :n], 2) for b, n in enumerate(LENS)]
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(value.double(), torch.stack(expected), rtol=tolerance, atol=tolerance)


def naive_lattice_kl(s, t, n, labels, tau=1.0, collapsed=False, shift=0):
    """The sum over frames and labels of one utterance, `s` and `t` nested lists `(T, U, V)`."""

    def probabilities(logits, u):
        p = softmax([v / tau for v in logits])
        if not collapsed:
            return p
        label = p[labels[u]] if u < len(labels) else 0.0
        return [p[0], label, sum(p) - p[0] - label] if label else [p[0], sum(p) - p[0]]

    return tau**2 * sum(
        kl(probabilities(t[i][u], u), probabilities(s[i + shift][u], u))
        for i in range(n - shift)
        for u in range(len(labels) + 1)
    )


def make_lattices(dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    labels = torch.tensor([[3, -1], [4, 4], [-1, -1]])
    lens, label_lens = torch.tensor([4, 3, 1]), torch.tensor([2, 3, 1])
    s, t = (2 * torch.randn(3, 4, 3, 5, generator=generator, dtype=dtype) for _ in range(2))
    return Seq(s, lens, label_lens, labels), Seq(t, lens, label_lens, labels)


LATTICE_CASES = [{}, {"temperature": 2.0}, {"collapsed": True}, {"collapsed": True, "shift": 1}, {"shift": 2}]


@pytest.mark.parametrize("keywords", LATTICE_CASES, ids=str)
@pytest.mark.parametrize("num_frames", [1, 3, 100])
def test_lattice_kl_is_the_definition_in_slices_of_any_size(keywords, num_frames, monkeypatch):
    monkeypatch.setattr(output_kl, "slice_frames", lambda lattice: num_frames)
    student, teacher = make_lattices()
    student.x.requires_grad_()
    value = LOSSES.build({"output_kl": {"reduction": "sum", **keywords}}, "test")({"x": student}, {"x": teacher})
    own = {"tau" if key == "temperature" else key: value for key, value in keywords.items()}
    naive = [
        naive_lattice_kl(s.tolist(), t.tolist(), int(n), labels[: int(u) - 1].tolist(), **own)
        for s, t, n, u, labels in zip(student.x, teacher.x, student.lens, student.label_lens, student.labels)
    ]
    torch.testing.assert_close(value.double(), torch.tensor(naive, dtype=torch.float64), rtol=1e-5, atol=1e-6)
    # The gradient, against differences of the definition.
    (grad,) = torch.autograd.grad(value.sum(), student.x)
    assert grad.isfinite().all()
    for place in [(0, 2, 0, 0), (0, 3, 1, 3), (1, 2, 1, 4), (1, 2, 2, 1)]:
        b, step, ends = place[0], 1e-4, []
        for sign in (1, -1):
            moved = student.x.detach().double()
            moved[place] += sign * step
            n, u = int(student.lens[b]), int(student.label_lens[b])
            labels = student.labels[b, : u - 1].tolist()
            ends.append(naive_lattice_kl(moved[b].tolist(), teacher.x[b].double().tolist(), n, labels, **own))
        assert grad[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-4)
    # Beyond an utterance's frames and labels, nothing is asked of the student.
    assert not grad[0, :, 2:].any() and not grad[1, 3:].any() and not grad[2, 1:].any()


def test_lattice_kl_is_a_mean_over_positions():
    student, teacher = make_lattices()
    total, mean = (
        LOSSES.build({"output_kl": {"reduction": name}}, "test")({"x": student}, {"x": teacher})
        for name in ("sum", "mean")
    )
    torch.testing.assert_close(mean, total / (student.lens * student.label_lens))


class Joint(torch.nn.Module):
    """Remembers how many frames it was asked for at once."""

    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(6, 5)
        self.frames = []

    def forward(self, encoded, predicted):
        self.frames.append(encoded.shape[1])
        return self.out(torch.tanh(encoded + predicted))


def test_teacher_lattice_is_computed_in_slices(monkeypatch):
    """Same loss and gradient as with all of the teacher's logits, of which no more than a slice is ever there."""
    monkeypatch.setattr(output_kl, "slice_frames", lambda lattice: 3)
    torch.manual_seed(0)
    joint, encoded, predicted = Joint(), torch.randn(2, 8, 1, 6), torch.randn(2, 1, 3, 6)
    lens, label_lens, labels = torch.tensor([8, 5]), torch.tensor([3, 2]), torch.tensor([[1, 2], [4, -1]])
    loss = LOSSES.build("output_kl", "test")
    x = torch.randn(2, 8, 3, 5, requires_grad=True)
    dense = loss({"x": Seq(x, lens, label_lens, labels)}, {"x": Seq(joint(encoded, predicted).detach(), lens)})
    (dense_grad,) = torch.autograd.grad(dense.sum(), x)
    rows = LatticeRows.of(joint, encoded, predicted)
    assert rows.shape == (2, 8, 3, 5) and rows.dim() == 4
    joint.frames.clear()
    lean = loss({"x": Seq(x, lens, label_lens, labels)}, {"x": Seq(rows, lens, label_lens, labels)})
    (lean_grad,) = torch.autograd.grad(lean.sum(), x)
    torch.testing.assert_close(lean, dense)
    torch.testing.assert_close(lean_grad, dense_grad)
    assert joint.frames == [3, 3, 2]
    assert all(p.grad is None for p in joint.parameters())
    lean = loss({"x": Seq(x, lens, label_lens, labels)}, {"x": Seq(rows, lens, label_lens, labels)})
    torch.testing.assert_close(torch.autograd.grad(lean.sum(), x, retain_graph=True), (dense_grad,))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(lean.sum(), x)


def test_teacher_lattice_keeps_the_precision_of_its_model():
    torch.manual_seed(0)
    joint, encoded, predicted = Joint(), torch.randn(1, 4, 1, 6), torch.randn(1, 1, 2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        rows, expected = LatticeRows.of(joint, encoded, predicted), joint(encoded, predicted)
    assert rows[0:4].dtype == torch.bfloat16 and torch.equal(rows[0:4], expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert LatticeRows(joint, encoded, predicted, 5, None)[1:3].dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 0, 3, 5), (0, 4, 3, 5)])
def test_lattice_without_frames_or_utterances(shape):
    x = torch.randn(shape, requires_grad=True)
    lens = torch.zeros(shape[0], dtype=torch.long)
    seq = Seq(x, lens, lens + 1, torch.zeros(shape[0], 2, dtype=torch.long))
    value = LOSSES.build("output_kl", "test")({"x": seq}, {"x": seq.with_x(x.detach())})
    assert value.shape == shape[:1] and not value.any()
    value.sum().backward()
    assert x.grad.shape == shape


def test_one_vector_per_utterance():
    generator = torch.Generator().manual_seed(4)
    s, t = (torch.randn(3, 6, generator=generator) for _ in range(2))
    value = LOSSES.build("mse", "test")({"x": Seq(s)}, {"x": Seq(t)})
    torch.testing.assert_close(value, ((s - t) ** 2).mean(1))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("distnace", ["distnace", "distance"]),
        ({"future": {"shfit": 2}}, ["shfit", "shift"]),
        ({"future": {"shift": 0}}, ["shift 0"]),
        ("relation", ["relation", "num_heads"]),
        ({"mse": {"reduction": "median"}}, ["median", "mean"]),
        ({"output_kl": {"temperature": 0}}, ["temperature 0"]),
        ({"output_kl": {"shift": -1}}, ["shift -1"]),
    ],
)
def test_a_wrong_spec_names_the_right_one(spec, words):
    with pytest.raises(ConfigError) as error:
        LOSSES.build(spec, "term 'a'")
    assert all(word in str(error.value) for word in words)


def test_classes_and_heads_must_match():
    with pytest.raises(ConfigError, match="8 student and 6 teacher classes"):
        LOSSES.build("output_kl", "test")({"x": make(8)}, {"x": make(6)})
    with pytest.raises(ConfigError, match="teacher width 6 does not split into 4 heads"):
        LOSSES.build({"relation": {"num_heads": 4}}, "test")(*sides("qkv", make(8), make(6)))


def test_mse_over_sums_is_the_mean_times_both_sizes():
    student, teacher = make(8, 1), make(8, 2)
    sums = LOSSES.build({"mse": {"reduction": "sum", "dims": "sum"}}, "test")({"x": student}, {"x": teacher})
    means = [8 * n * naive_mse(student.x[b].tolist(), teacher.x[b].tolist(), n) for b, n in enumerate(LENS)]
    torch.testing.assert_close(sums, torch.tensor(means), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("conf", "told", "slots"),
    [
        ({"slots": [3, 4]}, None, ([0, 1, 2], [3, 4, 5, 6])),
        ({}, [[0, 4, 6], [1, 2, 3, 5]], ([0, 4, 6], [1, 2, 3, 5])),
        ({"slots": [3, 4]}, [[0, 4, 6], [1, 2, 3, 5]], ([0, 1, 2], [3, 4, 5, 6])),
        ({}, None, ([0, 1, 2, 3, 4, 5, 6],)),
    ],
)
def test_output_kl_of_several_slots(conf, told, slots):
    """Each slot is a distribution of its own; their divergences are summed. The teacher may say which classes make one up."""
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(3, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    loss = LOSSES.build({"output_kl": {**conf, "temperature": 2.0}}, "test")
    found = loss({"x": Seq(s)}, {"x": Seq(t, slots=told)})
    for b in range(3):
        expected = 0.0
        for ids in slots:
            p, q = ((x[b, ids] / 2).exp() / (x[b, ids] / 2).exp().sum() for x in (t, s))
            expected += 4.0 * float((p * (p / q).log()).sum())
        assert float(found[b]) == pytest.approx(expected, rel=1e-5)


def test_output_kl_of_slots_that_do_not_fit():
    s, t = (torch.zeros(3, 7) for _ in range(2))
    with pytest.raises(ConfigError, match="slots of 8 classes in all, and 7 outputs"):
        LOSSES.build({"output_kl": {"slots": [4, 4]}}, "test")({"x": Seq(s)}, {"x": Seq(t)})
