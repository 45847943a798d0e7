"""What every teacher offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from espnet2_kd.kd.seq import Seq


class Teacher(ABC):
    """A frozen source of targets."""

    @abstractmethod
    def watch(self, paths: set[str]) -> None:
        """Say, once, which taps will be read.

        Raises:
            ConfigError: a tap this teacher does not have.
        """

    @abstractmethod
    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        """Targets of a batch, without gradients: path -> `Seq`.

        Args:
            batch: the keyword arguments of the student's forward pass.
            shared: what the student computed at `shared_paths`.
        """

    def shared_paths(self, student: nn.Module) -> set[str]:
        """Taps of the student that the teacher wants to start from."""
        return set()
