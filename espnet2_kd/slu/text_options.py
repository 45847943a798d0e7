"""How a text encoder is fine-tuned on intents. Without torch, so that a command can list its options quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from espnet2_kd.kd.registry import ConfigError

POOLINGS = ("cls", "mean")


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TextOptions:
    """Settings of a training, batch size, rate and dropout as in Devlin et al. (2019, A.3); raises ConfigError for unusable ones."""

    seed: int = _option(1, "of the linear layer, dropout and the order of sentences")
    max_epoch: int = _option(10, "passes through the sentences at most")
    batch_size: int = _option(32, "sentences in a batch")
    lr: float = _option(5e-5, "learning rate at the end of the warm-up")
    warmup_ratio: float = _option(
        0.1, "share of all steps in which the rate rises; then it falls to zero, both linearly"
    )
    weight_decay: float = _option(0.01, "of AdamW, on matrices only")
    clip: float = _option(1.0, "largest norm of the gradient")
    patience: int = _option(3, "stop after so many epochs without a better one; 0: never")
    pooling: str = _option("cls", "what is classified: cls, the state of the first token, or mean, that of all tokens")
    dropout_rate: float = _option(0.1, "before the linear layer; the encoder has its own")

    def __post_init__(self) -> None:
        for name, least in {"seed": 0, "max_epoch": 1, "batch_size": 1, "patience": 0}.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"{name}: {value!r}: give a whole number of at least {least}")
        for name in ("lr", "clip"):
            self._number(name, lambda value: 0 < value < math.inf, "a number above 0")
        self._number("weight_decay", lambda value: 0 <= value < math.inf, "a number of at least 0")
        for name in ("warmup_ratio", "dropout_rate"):
            self._number(name, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling: {self.pooling!r}: one of {', '.join(POOLINGS)}")

    def _number(self, name: str, fits: Any, wanted: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
            raise ConfigError(f"{name}: {value!r}: give {wanted}")
