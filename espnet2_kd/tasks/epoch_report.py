"""ESPnet2's record of a training, which can be taken up in the middle of an epoch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import torch
from espnet2.train.reporter import Average, Reporter, SubReporter, WeightedAverage

# Error rates that a model reports without having computed them.
NOT_COMPUTED = re.compile(r"\b[cw]er\w*=nan, |, [cw]er\w*=nan\b")


class ContinuedReporter(Reporter):
    """Goes on in the epoch that was interrupted.

    within: what `EpochPosition.state` gave of that epoch, until it is taken up.
    save_trained: writes the state of a training whose epoch has been trained but not yet validated.
    """

    def __init__(self, epoch: int = 0) -> None:
        super().__init__(epoch)
        self.within: dict[str, Any] | None = None
        self.save_trained: Callable[[], None] | None = None

    def start_epoch(self, key: str, epoch: int | None = None) -> SubReporter:
        """As ESPnet2's; what it gives knows its reporter as `whole`."""
        part = super().start_epoch(key, epoch)
        part.whole = self
        if key == "train" and self.within is not None:
            restore(part, self.within["reported"])
        return part

    def log_message(self, epoch: int | None = None) -> str:
        """The line of an epoch, as ESPnet2's without error rates that were not computed."""
        return NOT_COMPUTED.sub("", super().log_message(epoch))

    def finished_epochs(self) -> dict[str, Any]:
        """As `state_dict`, without the epoch that runs."""
        done = self.epoch - 1
        return {"stats": {epoch: stats for epoch, stats in self.stats.items() if epoch <= done}, "epoch": done}


def reported(part: SubReporter) -> dict[str, Any]:
    """What an epoch has reported so far: its seconds, and of each name the values (N, 1), or with their weights (N, 2)."""
    values = {
        name: torch.tensor(
            [(v.value, v.weight) if isinstance(v, WeightedAverage) else (v.value,) for v in values], dtype=torch.float64
        )
        for name, values in part.stats.items()
    }
    return {"values": values, "count": part.count, "seconds": time.perf_counter() - part.start_time}


def restore(part: SubReporter, state: dict[str, Any]) -> None:
    """Let an epoch that begins have reported what `reported` gave."""
    for name, values in state["values"].items():
        kind = WeightedAverage if values.shape[1] == 2 else Average
        part.stats[name] = [kind(*row) for row in values.tolist()]
    part.count += state["count"]
    part.total_count += state["count"]
    part.start_time -= state["seconds"]
