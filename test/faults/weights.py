"""Models compared bit by bit."""

from pathlib import Path


def same_weights(one: Path, other: Path, name: str = "2epoch.pth") -> None:
    """AssertionError unless both directories have the same weights of an epoch."""
    import torch

    states = [torch.load(folder / name, weights_only=True) for folder in (one, other)]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), f"{key} differs"
