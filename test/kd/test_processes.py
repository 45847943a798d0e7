"""What one process does by itself waits for no other."""

import pytest
import torch

from espnet2_kd.kd.distiller import _corrections
from espnet2_kd.kd.losses.contrastive import gathered
from espnet2_kd.kd.processes import alone, together


@pytest.fixture
def others(monkeypatch):
    """A process group in which nobody else answers."""

    def wait(*args, **keywords):
        raise TimeoutError("the others have not come")

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for name in ("all_reduce", "all_gather"):
        monkeypatch.setattr(torch.distributed, name, wait)


def test_alone(others):
    counts, weight, rows = torch.tensor([3.0, 5.0], dtype=torch.float64), torch.tensor(2.0), torch.randn(4, 2)
    assert together()
    with pytest.raises(TimeoutError):
        _corrections(counts, weight)
    with pytest.raises(TimeoutError):
        gathered(rows)
    with pytest.raises(KeyError), alone():
        assert not together()
        assert torch.equal(_corrections(counts, weight), torch.ones(2, dtype=torch.float64))
        found, start = gathered(rows)
        assert found is rows and start == 0
        with alone():
            pass
        assert not together()
        raise KeyError
    assert together()
