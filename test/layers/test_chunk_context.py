import pytest
import torch

from espnet2_kd.layers.chunk_context import ChunkContext


def written(text):
    return torch.tensor([[mark == "x" for mark in row.split()] for row in text.strip().splitlines()])


def allowed(context, num):
    t = torch.arange(num)
    return context.allowed(t, t)


def test_chunk_and_left_context():
    assert torch.equal(
        allowed(ChunkContext(chunk=2, left=2), 7),
        written(
            """
            x x . . . . .
            x x . . . . .
            x x x x . . .
            x x x x . . .
            . . x x x x .
            . . x x x x .
            . . . . x x x
            """
        ),
    )


def test_left_context_that_is_no_multiple_of_the_chunk_and_right_context():
    assert torch.equal(
        allowed(ChunkContext(chunk=3, left=1, right=1), 7),
        written(
            """
            x x x x . . .
            x x x x . . .
            x x x x . . .
            . . x x x x x
            . . x x x x x
            . . x x x x x
            . . . . . x x
            """
        ),
    )


def test_unlimited_left_and_full_context():
    assert torch.equal(
        allowed(ChunkContext(chunk=2), 5),
        written(
            """
            x x . . .
            x x . . .
            x x x x .
            x x x x .
            x x x x x
            """
        ),
    )
    assert allowed(ChunkContext(), 3).all()


@pytest.mark.parametrize(("chunk", "right"), [(4, 0), (4, 2), (4, 4), (3, 5), (1, 1), (2, 7)])
@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_lookahead_is_how_far_information_travels(chunk, right, num_layers):
    context = ChunkContext(chunk, 2, right)
    num = chunk * 4 + (right + chunk) * num_layers * 2
    reach = torch.linalg.matrix_power(allowed(context, num).double(), num_layers) > 0
    furthest = int(reach[chunk].nonzero().max())
    assert context.lookahead(num_layers) == furthest - (2 * chunk - 1)


@pytest.mark.parametrize(("chunk", "right"), [(4, 0), (3, 2), (2, 5)])
def test_complete_frames_see_nothing_beyond_those_received(chunk, right):
    context, num = ChunkContext(chunk, 1, right), 40
    seen = allowed(context, num)
    for received in range(20):
        done = [t for t in range(num) if seen[t].nonzero().max() < received]
        assert context.complete(received) == len(done)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((None, 4, 0), "need a chunk size"),
        ((None, None, 1), "need a chunk size"),
        ((0, 4, 0), "at least one frame"),
        ((4, -1, 0), "left context must not be negative"),
        ((4, 4, -2), "right context must not be negative"),
    ],
)
def test_contradicting_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        ChunkContext(*sizes)


def test_full_context_has_no_bounded_lookahead():
    with pytest.raises(ValueError, match="unbounded"):
        ChunkContext().lookahead(3)


def test_the_same_context_in_more_frames():
    assert ChunkContext(3, 4, 1).times(2) == ChunkContext(6, 8, 2)
    assert ChunkContext(3, None).times(4) == ChunkContext(12)
    assert ChunkContext().times(2) == ChunkContext()
    wide = allowed(ChunkContext(3, 4, 1), 9).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(allowed(ChunkContext(3, 4, 1).times(2), 18), wide)
