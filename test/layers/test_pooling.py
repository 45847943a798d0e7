import itertools

import torch

from espnet2_kd.layers.pooling import pool_pairs


def naive(x):
    """All of the frames (T, D) valid."""
    return torch.stack([x[t : t + 2].amax(0) for t in range(0, len(x), 2)])


def test_each_utterance_is_pooled_as_if_alone_whatever_the_padding():
    torch.manual_seed(0)
    for num in range(1, 12):
        lens = torch.arange(num + 1)
        x = torch.randn(num + 1, num, 3) - 5.0
        x[torch.arange(num) >= lens[:, None]] = float("nan")
        pooled, pooled_lens = pool_pairs(x, lens)
        assert pooled.shape == (num + 1, -(-num // 2), 3)
        assert pooled_lens.tolist() == [-(-length // 2) for length in range(num + 1)]
        for b in range(1, num + 1):
            assert torch.equal(pooled[b, : pooled_lens[b]], naive(x[b, :b]))
        assert not pooled[torch.arange(pooled.shape[1]) >= pooled_lens[:, None]].any()


def test_pieces_that_begin_at_even_frames_give_the_whole():
    x, lens = torch.randn(3, 11, 4), torch.tensor([11, 6, 3])
    expected, expected_lens = pool_pairs(x, lens)
    for cuts in ((0, 2, 11), (0, 0, 4, 4, 10, 11), (0, 6, 8, 11, 11)):
        pieces = [pool_pairs(x[:, a:b], lens, a) for a, b in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat([piece for piece, _ in pieces], dim=1), expected)
        assert all(torch.equal(piece_lens, expected_lens) for _, piece_lens in pieces)


def test_gradient_goes_to_the_larger_frame_and_never_to_padding():
    x = torch.tensor([[[1.0], [2.0], [4.0], [3.0], [5.0]], [[7.0], [6.0], [-9.0], [8.0], [8.0]]], requires_grad=True)
    pool_pairs(x, torch.tensor([5, 3]))[0].sum().backward()
    assert x.grad[:, :, 0].tolist() == [[0, 1, 1, 0, 1], [1, 0, 1, 0, 0]]
