"""CIF against its definition in float64: values, both gradients, padding, batches, pieces of a stream."""

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from espnet2_kd.ops import cif
from espnet2_kd.ops.cif import CIFState, bag, cif_fire, cif_fire_chunk
from espnet2_kd.ops.cif.naive import cif_fire_naive

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 7


def scaled(alpha, lens, num_tokens):
    """Weights whose sum is the number of tokens, in float32 as a model would have it."""
    beyond = torch.arange(alpha.shape[1]) >= lens[:, None]
    alpha = alpha.masked_fill(beyond, 0.0)
    return alpha * (num_tokens / alpha.sum(1))[:, None]


def case(name):
    """h, alpha, lens, num_tokens (None: inference) of the cases A to M of the project's performance page."""
    generator = torch.Generator().manual_seed(ord(name))
    sizes = {"E": (4, 120), "F": (3, 60), "G": (3, 60), "J": (2, 6000), "M": (3, 1)}
    batch_size, num_frames = sizes.get(name, (4, 120))
    h = torch.randn(batch_size, num_frames, WIDTH, generator=generator)
    alpha = torch.rand(batch_size, num_frames, generator=generator)
    lens = torch.full((batch_size,), num_frames)
    num_tokens = torch.tensor([24, 31, 17, 24])[:batch_size]
    if name == "A":
        return h, alpha * 0.4, lens, None
    if name == "B":
        return h, scaled(alpha, lens, num_tokens), lens, num_tokens
    if name in "CD":
        num_tokens = num_tokens * (5 if name == "C" else 12)
        alpha = scaled(alpha, lens, num_tokens)
        assert alpha.max() > (1.7 if name == "C" else 4)
        return h, alpha, lens, num_tokens
    if name == "E":
        lens = torch.tensor([120, 90, 60, 20])
        return h, alpha * 0.4, lens, None
    if name in "FG":
        alpha *= 0.4
        alpha[-1 if name == "F" else 1] *= 0.01
        return h, alpha, lens, None
    if name == "H":
        alpha[:] = torch.tensor([0.1, 0.2, 0.1, 0.2])[:, None]
        return h, alpha, lens, None
    if name == "I":
        alpha[:] = torch.tensor([0.25, 0.5, 0.25, 1.0])[:, None]
        return h, alpha, lens, None
    if name == "J":
        return h + 3.0, alpha * 0.4, lens, None
    if name == "K":
        h[:, 30:70] = 0.0
        return h, alpha * 0.4, lens, None
    if name == "L":
        alpha = scaled(alpha, lens, num_tokens + 0.7)
        return h, alpha, lens, None
    return h, torch.tensor([[1.0], [1.4], [0.3]]), lens, None


def by_definition(h, alpha, lens, grad=None, **options):
    """Tokens and gradients in float64."""
    h, alpha = h.double().requires_grad_(), alpha.double().requires_grad_()
    fired, fired_lens = cif_fire_naive(h, alpha, lens, **options)
    if grad is None:
        return fired.detach(), fired_lens
    grads = torch.autograd.grad(fired, (h, alpha), grad.double(), materialize_grads=True)
    return fired.detach(), fired_lens, *grads


@cache
def reference(name, tail):
    """The gradient that comes in, then `by_definition` of a case: that of 6000 frames takes as long as all else here."""
    h, alpha, lens, num_tokens = case(name)
    options = {"num_tokens": num_tokens, "tail": tail}
    shape = by_definition(h, alpha, lens, **options)[0].shape
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return grad, *by_definition(h, alpha, lens, grad, **options)


def close(value, reference, tolerance=2e-5):
    scale = reference.abs().max().clamp(min=1.0) if reference.numel() else 1.0
    torch.testing.assert_close(value.double() / scale, reference / scale, rtol=0.0, atol=tolerance)


@pytest.fixture(params=["bag", "bag of public operators", "numba"])
def way(request, monkeypatch):
    """The implementation that `auto` takes."""
    if request.param == "bag of public operators":
        monkeypatch.setattr(bag, "_ENTRY_DOTS", None)
        monkeypatch.setattr(bag, "SLICE", 50)
    impl = request.param.split()[0]
    monkeypatch.setattr(cif, "_best", lambda h, alpha: impl)
    return impl


@pytest.mark.parametrize("tail", [None, 0.5])
@pytest.mark.parametrize("name", "ABCDEFGHIJKLM")
def test_the_thirteen_cases(name, tail, way):
    h, alpha, lens, num_tokens = case(name)
    options = {"num_tokens": num_tokens, "tail": tail}
    h.requires_grad_()
    alpha.requires_grad_()
    fired, fired_lens = cif_fire(h, alpha, lens, **options)
    assert fired.dtype == torch.float32
    grad, expected, expected_lens, grad_h, grad_alpha = reference(name, tail)
    fired.backward(grad)
    assert fired_lens.tolist() == expected_lens.tolist()
    if num_tokens is not None:
        assert fired_lens.tolist() == num_tokens.tolist()
    close(fired, expected)
    close(h.grad, grad_h)
    close(alpha.grad, grad_alpha)
    again, again_lens = cif_fire(h, alpha, lens, **options, impl="naive")
    assert again_lens.tolist() == fired_lens.tolist()
    close(again, expected)


@pytest.mark.parametrize("threshold", [1.0, 0.8, 2.5])
@pytest.mark.parametrize("training", [False, True])
def test_the_definition_is_the_closed_form(threshold, training, way):
    """The matrix of overlaps, written out, against the loop; and the fast path for other thresholds."""
    h, alpha, lens, _ = case("E")
    alpha = alpha * 3
    num_tokens = torch.tensor([30, 9, 40, 1]) if training else None
    options = {"num_tokens": num_tokens, "threshold": threshold, "tail": 0.3}
    expected, expected_lens = by_definition(h, alpha, lens, **options)
    for b, n in enumerate(lens.tolist()):
        sums = torch.cat((torch.zeros(1).double(), alpha[b, :n].double().cumsum(0)))
        residue = sums[-1].item() % threshold
        count = num_tokens[b].item() if training else int(sums[-1] // threshold) + (residue > 0.3)
        assert expected_lens[b] == count
        for i in range(count):
            high = torch.inf if training and i == count - 1 else (i + 1) * threshold
            weights = (sums[1:].clamp(max=high) - sums[:-1].clamp(min=i * threshold)).clamp(min=0.0)
            if not training and i == int(sums[-1] // threshold):
                weights = weights * threshold / residue
            torch.testing.assert_close(expected[b, i], weights @ h[b, :n].double())
    fired, fired_lens = cif_fire(h, alpha, lens, **options)
    assert fired_lens.tolist() == expected_lens.tolist()
    close(fired, expected)


def test_all_weight_is_spent_in_training(way):
    """The sum over tokens is the weighted sum over frames, whether the weights were scaled well or not."""
    h, alpha, lens, _ = case("E")
    for num_tokens in (torch.tensor([20, 15, 8, 1]), torch.tensor([100, 100, 100, 100]), torch.tensor([1, 1, 1, 1])):
        fired, _ = cif_fire(h, alpha, lens, num_tokens=num_tokens)
        spent = torch.stack([alpha[b, :n] @ h[b, :n] for b, n in enumerate(lens.tolist())])
        torch.testing.assert_close(fired.sum(1), spent, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_tokens", [None, torch.tensor([9, 3, 0, 6, 2])])
def test_padding_is_never_read_and_batches_do_not_matter(num_tokens, way):
    generator = torch.Generator().manual_seed(3)
    lens = torch.tensor([40, 13, 25, 1, 0])
    h, alpha = torch.randn(5, 40, WIDTH, generator=generator), torch.rand(5, 40, generator=generator)
    beyond = torch.arange(40) >= lens[:, None]
    h, alpha = h.masked_fill(beyond[:, :, None], torch.nan), alpha.masked_fill(beyond, torch.nan)
    h.requires_grad_()
    alpha.requires_grad_()
    together, together_lens = cif_fire(h, alpha, lens, num_tokens=num_tokens)
    grad = torch.randn(together.shape, generator=generator)
    # Of tokens that are not there, the gradient may be anything as well.
    no_token = (torch.arange(grad.shape[1]) >= together_lens[:, None]) & (together_lens > 0)[:, None]
    together.backward(grad.masked_fill(no_token[:, :, None], torch.nan))
    assert h.grad[beyond].eq(0).all() and alpha.grad[beyond].eq(0).all()
    for b, n in enumerate(lens.tolist()):
        one_h, one_alpha = (x[b : b + 1, :n].detach().requires_grad_() for x in (h, alpha))
        tokens = None if num_tokens is None else num_tokens[b : b + 1]
        alone, alone_lens = cif_fire(one_h, one_alpha, lens[b : b + 1], num_tokens=tokens)
        count = int(alone_lens[0])
        assert count == together_lens[b] and together[b, count:].eq(0).all()
        torch.testing.assert_close(together[b, :count], alone[0])
        alone.backward(grad[b : b + 1, :count])
        torch.testing.assert_close(h.grad[b, :n], one_h.grad[0])
        torch.testing.assert_close(alpha.grad[b, :n], one_alpha.grad[0])


@pytest.mark.parametrize("num_tokens", [None, torch.tensor([0]), torch.tensor([3])])
@pytest.mark.parametrize("num_frames", [0, 1, 2])
def test_next_to_nothing(num_frames, num_tokens, way):
    h, alpha = torch.ones(1, num_frames, 2, requires_grad=True), torch.full((1, num_frames), 0.9, requires_grad=True)
    fired, fired_lens = cif_fire(h, alpha, torch.tensor([num_frames]), num_tokens=num_tokens)
    expected, expected_lens = by_definition(
        h.detach(), alpha.detach(), torch.tensor([num_frames]), num_tokens=num_tokens
    )
    assert fired_lens.tolist() == expected_lens.tolist()
    close(fired, expected)
    fired.sum().backward()
    assert h.grad.shape == h.shape and alpha.grad.shape == alpha.shape


def test_silence_and_a_full_batch_of_nothing(way):
    h, lens = torch.randn(2, 5, 3), torch.tensor([5, 0])
    fired, fired_lens = cif_fire(h, torch.zeros(2, 5), lens)
    assert fired.shape == (2, 0, 3) and fired_lens.tolist() == [0, 0]
    fired, _ = cif_fire(torch.full((2, 5, 3), torch.nan), torch.ones(2, 5), lens * 0, num_tokens=torch.tensor([2, 1]))
    assert torch.equal(fired, torch.zeros(2, 2, 3))


def test_no_token_is_lost_when_weights_are_scaled_in_float32(way):
    """A loop in float32 loses the last token of every second utterance, see the project's performance page."""
    generator = torch.Generator().manual_seed(5)
    alpha, num_tokens = torch.rand(300, 250, generator=generator), torch.randint(20, 100, (300,), generator=generator)
    lens = torch.full((300,), 250)
    alpha = scaled(alpha, lens, num_tokens)
    fired, fired_lens = cif_fire(torch.ones(300, 250, 1), alpha, lens, num_tokens=num_tokens)
    assert fired_lens.tolist() == num_tokens.tolist()
    mass = torch.arange(fired.shape[1]) < num_tokens[:, None]
    torch.testing.assert_close(fired[:, :, 0], mass.float(), rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("tail", [None, 0.5])
@pytest.mark.parametrize("num_frames", [10, 20, 70])
def test_a_sum_that_rounding_leaves_just_below_a_token(num_frames, tail, way):
    """Ten times 0.1, added one after the other in float64, is less than 1."""
    h, alpha = torch.ones(1, num_frames, 1).double(), torch.full((1, num_frames), 0.1, dtype=torch.float64)
    lens = torch.tensor([num_frames])
    expected, expected_lens = by_definition(h, alpha, lens, tail=tail)
    fired, fired_lens = cif_fire(h, alpha, lens, tail=tail)
    assert fired_lens.tolist() == expected_lens.tolist()
    close(fired, expected)


def test_long_form_without_drift(way):
    """Half an hour at a frame per 20 ms; a matrix of frames and tokens would take 8 GB."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(1, 100_000, generator=generator) * 0.4
    h = torch.randn(1, 100_000, 2, generator=generator) + 3.0
    lens = torch.tensor([100_000])
    fired, fired_lens = cif_fire(h, alpha, lens)
    assert fired_lens.item() == round(alpha.double().sum().item() - 0.0)
    # The last thousand tokens, by the definition from where they begin.
    sums = alpha[0].double().cumsum(0)
    first = int(torch.searchsorted(sums, torch.tensor(19_000.0, dtype=torch.float64), right=True))
    rest = alpha[:, first:].double()
    rest[0, 0] = sums[first] - 19_000.0
    expected, _ = by_definition(h[:, first:], rest, lens - first)
    close(fired[:, 19_000:], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype, way):
    h, alpha, lens, _ = case("J")
    h, alpha = h.to(dtype), alpha.to(dtype)
    fired, _ = cif_fire(h, alpha, lens)
    assert fired.dtype == dtype
    expected, _ = by_definition(h, alpha, lens)
    close(fired, expected, tolerance=2 * torch.finfo(dtype).eps)
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = cif_fire(h.float(), alpha.float(), lens)
    assert inside.dtype == torch.float32
    close(inside, expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("train", [True, False])
def test_a_weight_that_is_no_number_stays_with_its_utterance(bad, train, way):
    """Sums of it cannot be merged in order: indices from memory that nobody has written would lead anywhere."""
    h, alpha, lens, _ = case("J")
    alpha = alpha.float()
    counts = {"num_tokens": torch.full_like(lens, 3)} if train else {}
    poisoned = alpha.clone()
    poisoned[0, int(lens[0]) // 2] = bad
    for _ in range(5):
        junk = [torch.full((2000,), -(2**62)) for _ in range(50)]  # what `empty` may hand out
        del junk
        h_, alpha_ = h.float().requires_grad_(), poisoned.clone().requires_grad_()
        fired, fired_lens = cif_fire(h_, alpha_, lens, **counts)
        expected, expected_lens = cif_fire(h.float(), alpha, lens, **counts)
        num = int(expected_lens[1:].max())
        torch.testing.assert_close(fired[1:, :num], expected[1:, :num])
        assert torch.equal(fired_lens[1:], expected_lens[1:])
        assert not fired[0].isfinite().all() if train else fired_lens[0] <= 1
        fired[1:].sum().backward()
        assert h_.grad[1:].isfinite().all() and alpha_.grad[1:].isfinite().all()


def test_half_precision_is_saved_as_it_is(way):
    h, alpha, lens, _ = case("J")
    h, saved = h.bfloat16().requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        fired, _ = cif_fire(h, alpha.float(), lens, num_tokens=torch.full_like(lens, 3))
    assert [x.dtype for x in saved if x.shape == h.shape] == [torch.bfloat16]
    fired.float().sum().backward()
    assert h.grad.dtype == torch.bfloat16
    wide = h.detach().float().requires_grad_()
    cif_fire(wide, alpha.float(), lens, num_tokens=torch.full_like(lens, 3))[0].sum().backward()
    torch.testing.assert_close(h.grad, wide.grad.bfloat16())


def test_gradients_by_differences(way):
    torch.manual_seed(2)
    h, alpha = torch.randn(2, 6, 3).double().requires_grad_(), (torch.rand(2, 6).double() * 1.7).requires_grad_()
    lens, num_tokens = torch.tensor([6, 4]), torch.tensor([5, 2])
    assert torch.autograd.gradcheck(lambda h, alpha: cif_fire(h, alpha, lens, num_tokens=num_tokens)[0], (h, alpha))
    assert torch.autograd.gradcheck(lambda h, alpha: cif_fire(h, alpha, lens, tail=0.1)[0], (h, alpha))


@pytest.mark.parametrize("name", "ADEFHIKLM")
@pytest.mark.parametrize("tail", [None, 0.5])
def test_a_stream_in_pieces_gives_the_tokens_of_the_whole(name, tail, way):
    h, alpha, lens, _ = case(name)
    whole, whole_lens = cif_fire(h, alpha, lens, tail=tail)
    generator = torch.Generator().manual_seed(8)
    for longest in (1, 2, 7, 50):
        state, position = CIFState.start(len(h), WIDTH), 0
        tokens = [[] for _ in h]
        while position < h.shape[1]:
            size = int(torch.randint(0, longest + 1, (), generator=generator))  # now and then nothing
            here = (lens - position).clamp(0, size)
            piece = slice(position, position + size)
            position += size
            final = position >= h.shape[1]
            fired, fired_lens, state = cif_fire_chunk(
                h[:, piece],
                alpha[:, piece],
                here[: len(h)].clamp(max=h[:, piece].shape[1]),
                state,
                final=final,
                tail=tail,
            )
            for b, count in enumerate(fired_lens.tolist()):
                tokens[b] += list(fired[b, :count])
            assert (state.mass < 1.0).all() and (state.mass >= 0.0).all()
        for b, count in enumerate(whole_lens.tolist()):
            assert len(tokens[b]) == count
            if count:
                torch.testing.assert_close(torch.stack(tokens[b]), whole[b, :count], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("impl", ["bag", "numba", "naive"])
def test_more_rows_than_tokens_when_the_caller_says_so(impl):
    h, alpha, lens, num_tokens = case("B")
    exact, _ = cif_fire(h, alpha, lens, num_tokens=num_tokens)
    fired, fired_lens = cif_fire(h, alpha, lens, num_tokens=num_tokens, max_tokens=40, impl=impl)
    assert fired.shape == (4, 40, WIDTH) and torch.equal(fired_lens, num_tokens)
    close(fired[:, :31], exact.double())
    assert fired[:, 31:].eq(0).all()


@pytest.mark.parametrize("options", [{}, {"num_tokens": torch.tensor([30, 9, 40, 1]), "max_tokens": 40}])
def test_compiled_it_computes_the_same(options):
    """An in-place change of a view in `forward` once gave compiled gradients of zero; aot_eager is quick and shows such faults."""
    h, alpha, lens, _ = case("E")
    grad, results = None, []
    for function in (cif_fire, torch.compile(cif_fire, backend="aot_eager")):
        leaves = h.clone().requires_grad_(), alpha.clone().requires_grad_()
        fired, fired_lens = function(*leaves, lens, **options)
        grad = torch.randn(fired.shape, generator=torch.Generator().manual_seed(1)) if grad is None else grad
        results.append((fired.detach(), fired_lens, *torch.autograd.grad(fired, leaves, grad)))
    assert results[0][2].abs().max() > 0.1 and results[0][3].abs().max() > 0.1
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_triton_is_neither_needed_nor_taken_on_a_cpu(monkeypatch):
    h, alpha, lens = torch.ones(2, 3, 4), torch.ones(2, 3), torch.tensor([3, 2])
    if importlib.util.find_spec("triton"):
        with pytest.raises(ValueError, match="needs tensors on a GPU, not on cpu"):
            cif_fire(h, alpha, lens, impl="triton")
    monkeypatch.delitem(sys.modules, "espnet2_kd.ops.cif.fused", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="needs the package triton"):
        cif_fire(h, alpha, lens, impl="triton")
    assert torch.equal(
        cif_fire(h, alpha, lens)[0], torch.ones(2, 3, 4) * torch.tensor([[1, 1, 1], [1, 1, 0]])[..., None]
    )


def test_who_computes(monkeypatch):
    """The compiled loops where they are faster and worth a second's wait: a training in one thread."""
    taken = []
    monkeypatch.setattr(cif, "_integrate", lambda impl, h, *args: taken.append(impl) or h)
    h, alpha, lens = torch.ones(2, 3, 4), torch.ones(2, 3, requires_grad=True), torch.tensor([3, 2])
    num_threads = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            cif_fire(h, alpha, lens, num_tokens=lens)
            cif_fire(h, alpha.detach(), lens, num_tokens=lens)
            with torch.no_grad():
                cif_fire(h, alpha, lens, num_tokens=lens)
        torch.set_num_threads(1)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        cif._has_numba.cache_clear()
        cif_fire(h, alpha, lens, num_tokens=lens)
        with pytest.raises(ImportError, match="needs the package numba"):
            cif_fire(h, alpha, lens, impl="numba")
    finally:
        torch.set_num_threads(num_threads)
        cif._has_numba.cache_clear()
    assert taken == ["numba", *["bag"] * 6]


def test_loops_need_no_place_for_their_code():
    """numba refuses where neither its folder nor the user's can be written to, as in a read-only image."""
    program = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
import torch
from espnet2_kd.ops.cif import cif_fire
h = torch.ones(1, 3, 2, requires_grad=True)
fired, _ = cif_fire(h, torch.ones(1, 3) * 0.5, torch.tensor([3]), num_tokens=torch.tensor([1]), impl="numba")
assert fired.tolist() == [[[1.5, 1.5]]]
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)


def test_wrong_input_is_refused():
    h, alpha, lens = torch.ones(2, 3, 4), torch.ones(2, 3), torch.tensor([3, 2])
    with pytest.raises(ValueError, match=r"alpha \(B, T\)"):
        cif_fire(h, alpha[:, :2], lens)
    for impl in ("bag", "numba"):
        for num_tokens in (None, torch.tensor([1, 1])):
            with pytest.raises(ValueError, match="negative weights"):
                cif_fire(
                    h, torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, torch.nan]]), lens, num_tokens=num_tokens, impl=impl
                )
    with pytest.raises(ValueError, match="needs tensors on the CPU, not on meta"):
        cif_fire(h.to("meta"), alpha.to("meta"), lens.to("meta"), impl="numba")
    with pytest.raises(ValueError, match="one of auto, bag, numba, triton, naive"):
        cif_fire(h, alpha, lens, impl="other")
    with pytest.raises(ValueError, match="must be positive"):
        cif_fire(h, alpha, lens, threshold=0.0)
    with pytest.raises(ValueError, match="max_tokens 1 is less than the 2"):
        cif_fire(h, alpha, lens, num_tokens=torch.tensor([2, 1]), max_tokens=1)
    with pytest.raises(ValueError, match="max_tokens belongs to num_tokens"):
        cif_fire(h, alpha, lens, max_tokens=3)
    with pytest.raises(ValueError, match="whole utterances"):
        cif_fire_chunk(h, alpha, lens, CIFState.start(2, 4), impl="naive")
