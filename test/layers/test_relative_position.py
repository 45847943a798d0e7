import math

import pytest
import torch
from espnet.nets.pytorch_backend.transformer.embedding import RelPositionalEncoding

from espnet2_kd.layers.relative_position import relative_positions


def test_equals_espnet():
    _, expected = RelPositionalEncoding(16, 0.0)(torch.zeros(1, 50, 16))
    actual = relative_positions(49, 49, 16, torch.zeros(1))
    assert (actual - expected[0]).abs().max() < 1e-5


@pytest.mark.parametrize(("back", "ahead"), [(0, 0), (3, 0), (0, 2), (20000, 1)])
def test_rows_go_from_the_furthest_past_key_to_the_furthest_future_key(back, ahead):
    size = 6
    rows = relative_positions(back, ahead, size, torch.zeros(1, dtype=torch.float64))
    assert rows.shape == (back + ahead + 1, size)
    for row in {0, back, back + ahead}:
        for i in range(size // 2):
            angle = (back - row) / 10000 ** (2 * i / size)
            assert rows[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-9)
            assert rows[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-9)


def test_device_and_dtype_of_the_frames():
    assert relative_positions(2, 1, 4, torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.bfloat16
