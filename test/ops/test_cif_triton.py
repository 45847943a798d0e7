"""The Triton kernels of CIF against its definition: on a GPU where there is one, otherwise in Triton's interpreter.

The interpreter has to be chosen before Triton is imported, so there the tests run in a process of their own, and on small
pieces of the cases, since it takes milliseconds for each token.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton")

from espnet2_kd.ops.cif import CIFState, cif_fire, cif_fire_chunk  # noqa: E402

cases = runpy.run_path(str(Path(__file__).with_name("test_cif.py")))
case, scaled, by_definition, close = (cases[name] for name in ("case", "scaled", "by_definition", "close"))

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
kernels = pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="runs in test_in_the_interpreter")
on_a_gpu = pytest.mark.skipif(DEVICE == "cpu" or INTERPRETED, reason="needs a GPU")

if INTERPRETED:
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor

    def patch_index(tensor, *scope):
        """numpy 2.4 refuses the interpreter's `int(array)`, by which it counts loops."""
        patch_tensor(tensor, *scope)
        tensor.__index__ = lambda self: self.handle.data.item()

    interpreter._patch_lang_tensor = patch_index


@pytest.mark.skipif(DEVICE == "cuda" or INTERPRETED, reason="the tests run here themselves")
def test_in_the_interpreter():
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = subprocess.run(command, env={**env, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


def piece(name):
    """Some of a case: of every kind of utterance one, fewer than a hundred tokens."""
    h, alpha, lens, num_tokens = case(name)
    if DEVICE == "cuda" or name == "M":
        return h, alpha, lens, num_tokens
    if name == "J":
        return h[:1, :1200], alpha[:1, :1200] * 0.2, lens[:1].clamp(max=1200), None
    if name == "E":
        return h[:, :30], alpha[:, :30], lens // 4, None
    rows, num_frames = (slice(0, 4), 8) if name == "I" else (slice(-2, None), 20)
    h, alpha, lens = h[rows, :num_frames], alpha[rows, :num_frames], lens[rows].clamp(max=num_frames)
    if name in "BCDL":
        wanted = {"B": [5, 4], "C": [20, 18], "D": [50, 25], "L": [3.7, 4.7]}[name]
        num_tokens = None if name == "L" else torch.tensor(wanted)
        alpha = scaled(alpha, lens, torch.tensor(wanted))
    return h, alpha, lens, num_tokens


def fire(h, alpha, lens, num_tokens=None, **options):
    """Tokens, their numbers, and a function that takes gradients of tokens to those of frames and weights, all on the CPU."""
    h, alpha = h.to(DEVICE).requires_grad_(), alpha.to(DEVICE).requires_grad_()
    num_tokens = None if num_tokens is None else num_tokens.to(DEVICE)
    fired, fired_lens = cif_fire(h, alpha, lens.to(DEVICE), num_tokens=num_tokens, **options, impl="triton")

    def backward(grad):
        return [x.cpu() for x in torch.autograd.grad(fired, (h, alpha), grad.to(fired))]

    return fired.detach().cpu(), fired_lens.cpu(), backward


def agrees(h, alpha, lens, num_tokens=None, tolerance=2e-5, **options):
    """Whether values and gradients are those of the definition."""
    fired, fired_lens, backward = fire(h, alpha, lens, num_tokens, **options)
    assert fired.dtype == h.dtype
    grad = torch.randn(fired.shape, generator=torch.Generator().manual_seed(1)).to(h.dtype)
    expected, expected_lens, *expected_grads = by_definition(h, alpha, lens, grad, num_tokens=num_tokens, **options)
    assert fired_lens.tolist() == expected_lens.tolist()
    close(fired, expected, tolerance)
    for value, reference, x in zip(backward(grad), expected_grads, (h, alpha), strict=True):
        assert value.dtype == x.dtype
        close(value, reference, tolerance)


@kernels
@pytest.mark.parametrize(("name", "tail"), [*((name, 0.5) for name in "ABCDEFGHIJKLM"), ("E", None), ("L", None)])
def test_the_thirteen_cases(name, tail):
    h, alpha, lens, num_tokens = piece(name)
    if name == "C":
        assert alpha.max() > 1.5
    if name == "D":
        assert alpha.max() > 4
    agrees(h, alpha, lens, num_tokens, tail=tail)


@kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("training", [False, True])
def test_other_precisions(dtype, training):
    h, alpha, lens, _ = piece("E")
    num_tokens = torch.tensor([5, 3, 4, 1]) if training else None
    tolerance = 1e-12 if dtype == torch.float64 else 2 * torch.finfo(dtype).eps
    agrees((h + 3).to(dtype), alpha.to(dtype), lens, num_tokens, tolerance)
    if dtype != torch.float64:
        # Weights in float32, as a model has them.
        fired, _, backward = fire((h + 3).to(dtype), alpha, lens, num_tokens)
        expected, _, _, grad_alpha = by_definition(
            (h + 3).to(dtype), alpha, lens, torch.ones(fired.shape), num_tokens=num_tokens
        )
        close(fired, expected, tolerance)
        # Differences of sums over exact products, so better than half precision.
        close(backward(torch.ones(()).expand(fired.shape))[1], grad_alpha)


@kernels
@pytest.mark.parametrize("threshold", [0.8, 2.5])
@pytest.mark.parametrize("num_tokens", [None, torch.tensor([12, 3, 0, 1])])
def test_other_thresholds_and_more_tokens_than_frames(threshold, num_tokens):
    h, alpha, lens, _ = case("E")
    agrees(h[:, :9], alpha[:, :9] * 3, lens // 13, num_tokens, threshold=threshold, tail=0.3)


@kernels
@pytest.mark.parametrize("num_tokens", [None, torch.tensor([0]), torch.tensor([3])])
@pytest.mark.parametrize("num_frames", [0, 1, 2])
def test_next_to_nothing(num_frames, num_tokens):
    h, alpha, lens = torch.ones(1, num_frames, 2), torch.full((1, num_frames), 0.9), torch.tensor([num_frames])
    fired, fired_lens, backward = fire(h, alpha, lens, num_tokens)
    expected, expected_lens = by_definition(h, alpha, lens, num_tokens=num_tokens)
    assert fired_lens.tolist() == expected_lens.tolist()
    close(fired, expected)
    grad_h, grad_alpha = backward(torch.ones(fired.shape))
    assert grad_h.shape == h.shape and grad_alpha.shape == alpha.shape


@kernels
def test_widths_strides_and_unused_rows():
    """Features that one program does not cover, frames that do not follow each other in memory, fewer tokens than rows."""
    generator = torch.Generator().manual_seed(4)
    h = torch.randn(600, 2, 5, generator=generator).permute(1, 2, 0)
    alpha = torch.rand(5, 2, generator=generator).T
    lens, num_tokens = torch.tensor([5, 4]), torch.tensor([2, 1])
    fired, _, backward = fire(h, alpha, lens, num_tokens, max_tokens=4)
    assert fired.shape == (2, 4, 600) and fired[0, 2:].eq(0).all() and fired[1, 1:].eq(0).all()
    grad = torch.randn(2, 600, 2, generator=generator).transpose(1, 2)
    expected, _, grad_h, grad_alpha = by_definition(h, alpha, lens, grad, num_tokens=num_tokens)
    close(fired[:, :2], expected)
    # Whatever comes back for rows that are no tokens.
    full = torch.full((2, 4, 600), torch.nan)
    full[0, :2], full[1, 0] = grad[0], grad[1, 0]
    for value, reference in zip(backward(full), (grad_h, grad_alpha), strict=True):
        close(value, reference)


@kernels
@pytest.mark.parametrize("num_tokens", [None, torch.tensor([4, 3, 0, 2])])
def test_padding_is_never_read(num_tokens):
    generator = torch.Generator().manual_seed(3)
    lens = torch.tensor([20, 13, 1, 0])
    h, alpha = torch.randn(4, 20, 7, generator=generator), torch.rand(4, 20, generator=generator) * 0.4
    beyond = torch.arange(20) >= lens[:, None]
    expected, expected_lens = by_definition(h, alpha, lens, num_tokens=num_tokens)
    grad = torch.randn(expected.shape, generator=generator)
    _, _, *expected_grads = by_definition(h, alpha, lens, grad, num_tokens=num_tokens)
    h, alpha = h.masked_fill(beyond[:, :, None], torch.nan), alpha.masked_fill(beyond, torch.nan)
    fired, fired_lens, backward = fire(h, alpha, lens, num_tokens)
    assert fired_lens.tolist() == expected_lens.tolist()
    close(fired, expected)
    for value, reference in zip(backward(grad), expected_grads, strict=True):
        close(value, reference)
        assert value[beyond].eq(0).all()


@kernels
def test_an_infinite_gradient_stays_with_its_token():
    h, alpha = torch.ones(1, 8, 2), torch.full((1, 8), 0.3)
    fired, _, backward = fire(h, alpha, torch.tensor([8]))
    grad = torch.ones(fired.shape)
    grad[0, 1] = torch.inf
    grad_h, _ = backward(grad)
    assert grad_h[0, [0, 1, 2, 7]].isfinite().all() and grad_h[0, 3:7].isinf().all()


@kernels
def test_weights_that_are_no_numbers_do_not_lead_out_of_memory():
    h, lens = torch.ones(2, 6, 3), torch.tensor([6, 6])
    for bad in (torch.nan, torch.inf, -1.0):
        alpha = torch.tensor([[0.5, 0.5, bad, 0.5, 0.5, 0.5], [0.5] * 6])
        fired, _, backward = fire(h, alpha, lens, torch.tensor([3, 3]))
        grad_h, _ = backward(torch.ones(fired.shape))
        torch.testing.assert_close(fired[1], torch.ones(3, 3))
        torch.testing.assert_close(grad_h[1], torch.full((6, 3), 0.5))


@kernels
@pytest.mark.parametrize("tail", [None, 0.5])
def test_a_stream_in_pieces_gives_the_tokens_of_the_whole(tail):
    h, alpha, lens, _ = (x if x is None else x.to(DEVICE) for x in piece("E"))
    alpha = alpha * 2
    whole, whole_lens = cif_fire(h, alpha, lens, tail=tail)
    state, tokens = CIFState.start(len(h), h.shape[2], DEVICE), [[] for _ in h]
    for begin in range(0, h.shape[1], 11):
        now = slice(begin, begin + 11)
        here = (lens - begin).clamp(0, h[:, now].shape[1])
        final = begin + 11 >= h.shape[1]
        fired, fired_lens, state = cif_fire_chunk(
            h[:, now], alpha[:, now], here, state, final=final, tail=tail, impl="triton"
        )
        for b, count in enumerate(fired_lens.tolist()):
            tokens[b] += list(fired[b, :count])
    for b, count in enumerate(whole_lens.tolist()):
        assert len(tokens[b]) == count
        torch.testing.assert_close(torch.stack(tokens[b]), whole[b, :count], rtol=1e-5, atol=1e-5)


@on_a_gpu
@pytest.mark.parametrize("shape", [(16, 250, 256), (8, 1000, 512), (32, 500, 256), (1, 20000, 80)])
def test_large_batches_equal_the_other_implementation(shape):
    generator = torch.Generator().manual_seed(6)
    h = torch.randn(shape, generator=generator).cuda().requires_grad_()
    alpha = (torch.rand(shape[:2], generator=generator) * 0.4).cuda().requires_grad_()
    lens = torch.full(shape[:1], shape[1], device="cuda")
    results = []
    for impl in ("bag", "triton"):
        fired, fired_lens = cif_fire(h, alpha, lens, impl=impl)
        grad = torch.randn(fired.shape, generator=torch.Generator().manual_seed(7)).cuda()
        results.append((fired_lens, fired, *torch.autograd.grad(fired, (h, alpha), grad)))
    assert torch.equal(results[0][0], results[1][0])
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        close(one, other.double())


@on_a_gpu
@pytest.mark.parametrize("impl", ["bag", "triton"])
def test_in_a_cuda_graph(impl):
    """Nothing waits for the host once the number of rows is known, so training can be captured and replayed on new data."""
    lens, num_tokens = torch.tensor([120, 90], device="cuda"), torch.tensor([30, 20], device="cuda")
    h = torch.zeros(2, 120, 64, device="cuda", requires_grad=True)
    alpha = torch.zeros(2, 120, device="cuda", requires_grad=True)
    grad = torch.zeros(2, 40, 64, device="cuda")

    def step():
        fired, _ = cif_fire(h, alpha, lens, num_tokens=num_tokens, max_tokens=40, impl=impl)
        return fired, *torch.autograd.grad(fired, (h, alpha), grad)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()  # compiles the kernels
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for x in (h, alpha, grad):
            x.copy_(torch.rand(x.shape, generator=torch.Generator().manual_seed(8)) * 0.5)
    graph.replay()
    results = [x.clone() for x in captured]
    for value, reference in zip(results, step(), strict=True):
        close(value, reference.double())
    expected, *_ = by_definition(h.detach().cpu(), alpha.detach().cpu(), lens.cpu(), num_tokens=num_tokens.cpu())
    close(results[0][:, :30].cpu(), expected)
