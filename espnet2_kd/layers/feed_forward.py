"""Position-wise feed-forward module."""

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"swish": nn.SiLU, "relu": nn.ReLU, "gelu": nn.GELU}


def make_activation(name: str) -> nn.Module:
    """Activation of that name; raises ValueError naming the known ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class FeedForward(nn.Module):
    """Two linear layers with an activation between, (B, T, D) -> (B, T, D)."""

    def __init__(self, size: int, hidden_size: int, dropout_rate: float = 0.0, activation: str = "swish") -> None:
        super().__init__()
        self.w_1 = nn.Linear(size, hidden_size)
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(dropout_rate)
        self.w_2 = nn.Linear(hidden_size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w_2(self.dropout(self.activation(self.w_1(x))))
