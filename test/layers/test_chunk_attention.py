import math

import pytest
import torch
from espnet.nets.pytorch_backend.transformer.attention import RelPositionMultiHeadedAttention
from espnet.nets.pytorch_backend.transformer.embedding import RelPositionalEncoding
from torch.autograd.graph import saved_tensors_hooks

from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.chunk_attention import ChunkAttention
from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.folded_attention import folded_attention
from espnet2_kd.layers.relative_position import relative_positions

SIZE, HEADS = 8, 2


def attention(dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    module = ChunkAttention(HEADS, SIZE).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return module


def run(module, x, lens, context):
    plan = AttentionPlan.make(lens, x.shape[1], context)
    return module(x, relative_positions(plan.back, plan.ahead, SIZE, x), plan)


def naive(module, x, lens, context):
    """The definition: one query, one head, one key at a time."""
    d = SIZE // HEADS
    split = lambda y: y.view(*y.shape[:-1], HEADS, d)  # noqa: E731
    q, k, v = (split(linear(x)) for linear in (module.linear_q, module.linear_k, module.linear_v))
    rows = []
    for b, length in enumerate(lens.tolist()):
        for t in range(length):
            keys = list(range(length))
            if context.chunk is not None:
                start = t // context.chunk * context.chunk
                first = 0 if context.left is None else start - context.left
                keys = [j for j in keys if first <= j < start + context.chunk + context.right]
            heads = []
            for h in range(HEADS):
                scores = []
                for j in keys:
                    angles = [(t - j) / 10000 ** (2 * i / SIZE) for i in range(SIZE // 2)]
                    sinusoid = x.new_tensor([f(a) for a in angles for f in (math.sin, math.cos)])
                    p = split(module.linear_pos(sinusoid))[h]
                    score = (q[b, t, h] + module.pos_bias_u[h]) @ k[b, j, h]
                    scores.append((score + (q[b, t, h] + module.pos_bias_v[h]) @ p) / math.sqrt(d))
                weights = torch.stack(scores).softmax(0)
                heads.append(sum(w * v[b, j, h] for w, j in zip(weights, keys)))
            rows.append(module.linear_out(torch.cat(heads)))
    return torch.stack(rows)


CASES = [
    # T, lengths, chunk, left, right
    (1, [1], 4, 16, 0),
    (2, [2, 1], 1, 0, 0),
    (3, [3, 2], 4, 2, 1),
    (9, [9, 4, 8], None, None, 0),
    (13, [13, 6], 4, None, 0),
    (13, [13, 6], 3, None, 2),
    (37, [37, 36, 1], 1, 0, 0),
    (37, [37, 19], 4, 4, 0),
    (40, [40, 33], 4, 3, 0),
    (41, [41, 33], 3, 1, 2),
    (70, [70, 35], 5, 7, 6),
    (43, [43, 20], 1, 2, 1),
    (75, [75, 18], 20, 0, 0),
]


@pytest.mark.parametrize(("num", "lens", "chunk", "left", "right"), CASES)
def test_equals_the_definition_in_value_and_gradient(num, lens, chunk, left, right):
    module, context = attention(), ChunkContext(chunk, left, right)
    lens = torch.tensor(lens)
    valid = torch.arange(num) < lens[:, None]
    weight = torch.randn(int(lens.sum()), SIZE, dtype=torch.float64)

    def outcome(function):
        module.zero_grad()
        x = torch.randn(len(lens), num, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        out = function(x)
        (out * weight).sum().backward()
        return [out, x.grad, *(parameter.grad.clone() for parameter in module.parameters())]

    fast = outcome(lambda x: run(module, x, lens, context)[valid])
    slow = outcome(lambda x: naive(module, x, lens, context))
    for actual, expected in zip(fast, slow):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_the_cases_cover_folded_and_dense():
    folded = [
        AttentionPlan.make(torch.tensor(lens), num, ChunkContext(chunk, left, right)).block < num
        for num, lens, chunk, left, right in CASES
    ]
    assert sum(folded) >= 6 and not all(folded)


@pytest.mark.parametrize(
    ("context", "fewer"),
    [
        (ChunkContext(4, 16), 0.6),  # blocks of 16, the smallest
        (ChunkContext(1, 4), 0.6),
        (ChunkContext(4, 64), 0.75),
        (ChunkContext(16, 1000), 0.75),
        (ChunkContext(8, 32, 8), 0.75),
    ],
)
def test_folded_only_where_that_computes_less(context, fewer):
    """Scores by content and by distance, counted from the plans of both forms."""

    def num_scores(plan, num):
        num_queries = -(-num // plan.block) * plan.block
        return num_queries * (plan.blocked.shape[2] + plan.back + plan.ahead + 1)

    kinds = []
    for num in range(1, 3000, 17):
        lens = torch.tensor([num])
        plan, dense = AttentionPlan.make(lens, num, context), AttentionPlan.dense(lens, num, context)
        kinds.append(plan.block < num)
        if kinds[-1]:
            assert num_scores(plan, num) < fewer * num_scores(dense, num)
        elif num > context.left:
            assert num_scores(AttentionPlan.folded(lens, num, context), num) >= fewer * num_scores(dense, num)
    assert not kinds[0] and kinds[-1]


@pytest.mark.parametrize("seed", range(25))
def test_folded_equals_dense_for_random_sizes(seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda low, high: int(torch.randint(low, high, (), generator=generator))  # noqa: E731
    context = ChunkContext(draw(1, 12), draw(0, 40), draw(0, 2) * draw(0, 12))
    num = draw(1, 260)
    lens = torch.tensor([num, draw(1, num + 1)])
    module = attention(seed=seed)
    x = torch.randn(2, num, SIZE, dtype=torch.float64, generator=generator)
    plan = AttentionPlan.dense(lens, num, context)
    dense = module(x, relative_positions(plan.back, plan.ahead, SIZE, x), plan)
    valid = torch.arange(num) < lens[:, None]
    torch.testing.assert_close(run(module, x, lens, context)[valid], dense[valid], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("context", [ChunkContext(), ChunkContext(4, 8), ChunkContext(4, 5, 2), ChunkContext(4)])
def test_equals_espnet_with_the_same_weights(context):
    num, lens = 50, torch.tensor([50, 31])
    module = attention(torch.float32)
    stock = RelPositionMultiHeadedAttention(HEADS, SIZE, 0.0)
    stock.load_state_dict(module.state_dict())
    x = torch.randn(2, num, SIZE)
    _, pos = RelPositionalEncoding(SIZE, 0.0)(x)
    t = torch.arange(num)
    valid = t < lens[:, None]
    expected = stock(x, x, x, pos, valid[:, None] & context.allowed(t, t))
    assert (run(module, x, lens, context) - expected)[valid].abs().max() < 1e-5


def test_padding_changes_neither_output_nor_gradient():
    module, context = attention(), ChunkContext(4, 8, 1)
    alone = torch.randn(1, 50, SIZE, dtype=torch.float64, requires_grad=True)
    expected = run(module, alone, torch.tensor([50]), context)
    expected.sum().backward()
    padded = torch.full((2, 90, SIZE), 1e3, dtype=torch.float64)
    padded[1, :50] = alone.detach()[0]
    padded.requires_grad_()
    out = run(module, padded, torch.tensor([90, 50]), context)
    out[1, :50].sum().backward()
    torch.testing.assert_close(out[1:, :50], expected)
    torch.testing.assert_close(padded.grad[1:, :50], alone.grad)
    assert not padded.grad[0].any() and not padded.grad[1, 50:].any()
    assert out.isfinite().all()


def test_an_empty_utterance_stays_finite():
    module = attention(torch.float32)
    x = torch.randn(2, 60, SIZE, requires_grad=True)
    out = run(module, x, torch.tensor([60, 0]), ChunkContext(4, 8))
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


def test_gradient_reaches_allowed_frames_only():
    module, context = attention(), ChunkContext(3, 4, 2)
    x = torch.randn(1, 60, SIZE, dtype=torch.float64, requires_grad=True)
    out = run(module, x, torch.tensor([60]), context)
    t = torch.arange(60)
    seen = context.allowed(t, t)
    for query in (0, 17, 31, 59):
        (grad,) = torch.autograd.grad(out[0, query].sum(), x, retain_graph=True)
        assert torch.equal(grad[0].abs().sum(1) > 0, seen[query])


def test_cost_and_projected_distances_do_not_grow_with_the_length():
    context, rows = ChunkContext(4, 16), []
    module = attention(torch.float32)
    module.linear_pos.register_forward_hook(lambda m, args, out: rows.append(len(out)))
    for num in (400, 4000):
        run(module, torch.randn(1, num, SIZE), torch.tensor([num]), context)
        plan = AttentionPlan.make(torch.tensor([num]), num, context)
        assert plan.blocked.numel() == num * (16 + 16)
    assert rows == [16 + 2 * 16 - 1] * 2


def test_taps_of_the_projections_are_frames():
    module, shapes = attention(torch.float32), {}
    for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
        getattr(module, name).register_forward_hook(lambda m, args, out, name=name: shapes.update({name: out.shape}))
    run(module, torch.randn(2, 77, SIZE), torch.tensor([77, 70]), ChunkContext(4, 8))
    assert shapes == dict.fromkeys(("linear_q", "linear_k", "linear_v", "linear_out"), (2, 77, SIZE))


@pytest.mark.parametrize("context", [ChunkContext(), ChunkContext(4, 8)])
def test_bfloat16_autocast(context):
    module = attention(torch.float32)
    for linear in (module.linear_q, module.linear_k):
        linear.weight.data *= 0.3
    x, lens = torch.randn(2, 60, SIZE, requires_grad=True), torch.tensor([60, 41])
    valid = torch.arange(60) < lens[:, None]
    exact = run(module, x, lens, context)
    kept = []
    with torch.autocast("cpu", torch.bfloat16), saved_tensors_hooks(lambda y: kept.append(y) or y, lambda y: y):
        out = run(module, x, lens, context)
    assert out.dtype == torch.bfloat16
    weights = [y for y in kept if y.ndim == 3 and y.shape[0] % HEADS == 0 and y.min() >= 0 and y.dtype == torch.float32]
    assert any(torch.allclose(y.sum(-1), torch.ones(()), atol=1e-6) for y in weights)
    difference = (out.float() - exact)[valid].norm() / exact[valid].norm()
    assert 0 < difference < 0.03
    (exact_grad,) = torch.autograd.grad(exact[valid].sum(), x)
    out[valid].float().sum().backward()
    assert 0 < (x.grad - exact_grad).norm() / exact_grad.norm() < 0.05


@pytest.mark.parametrize("context", [ChunkContext(), ChunkContext(4, 8)])
def test_dropout_in_value_and_gradient(context):
    """Weights are read off with one-hot values, then the definition is applied to what was kept."""
    num, rate = 33, 0.4
    plan = AttentionPlan.make(torch.tensor([num]), num, context)
    torch.manual_seed(0)
    q, k = (torch.randn(1, num, 1, num, dtype=torch.float64, requires_grad=True) for _ in range(2))
    v = torch.eye(num, dtype=torch.float64)[None, :, None].requires_grad_()
    p = torch.randn(1, plan.back + plan.ahead + 1, num, dtype=torch.float64, requires_grad=True)
    biases = [torch.randn(1, num, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    inputs = (q, k, v, p, *biases)
    torch.manual_seed(1)
    dropped = folded_attention(*inputs, plan, rate)
    weight = torch.randn_like(dropped)
    actual = torch.autograd.grad((dropped * weight).sum(), inputs)
    whole = folded_attention(*inputs, plan)
    kept = (dropped != 0) & (whole != 0)
    assert 0.5 < kept.sum() / (whole != 0).sum() < 0.7
    torch.testing.assert_close(dropped, whole * kept / (1 - rate))
    # The gradient of the values is the weights' own; the rest passes through the kept weights alone.
    expected = torch.autograd.grad((whole * kept / (1 - rate) * weight).sum(), inputs)
    for position in (0, 1, 3, 4, 5):
        torch.testing.assert_close(actual[position], expected[position])
    torch.testing.assert_close(actual[2][0, :, 0], dropped[0].T @ weight[0])


def test_the_gradient_is_taken_once():
    module, x = attention(), torch.randn(1, 50, SIZE, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(run(module, x, torch.tensor([50]), ChunkContext(4, 8)).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_heads_must_divide_the_size():
    with pytest.raises(ValueError, match="not a multiple of 3 attention heads"):
        ChunkAttention(3, 8)
