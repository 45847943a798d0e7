"""What every teacher offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.taps import ATTENTION


class Teacher(ABC):
    """A frozen source of targets.

    Attributes:
        reads: what of an utterance decides its targets, `speech` or `text`.
        attention: where a layer keeps its attention projections `q`, `k`, `v`, as suffixes of its path.
    """

    reads: ClassVar[str] = "speech"
    attention: ClassVar[Mapping[str, str]] = ATTENTION

    def join(self, student: nn.Module) -> None:  # noqa: B027  (most teachers do without)
        """Meet the student, once, before anything else.

        Raises:
            ConfigError: this teacher cannot teach that student.
        """

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
            batch: the keyword arguments of the student's forward pass. Without `text` it is unlabelled speech, and only the taps
                that need no labels are given.
            shared: what the student computed at `shared_paths`.
        """

    def shared_paths(self, student: nn.Module) -> set[str]:
        """Taps of the student that the teacher wants to start from."""
        return set()

    def take_loss(self) -> Tensor | None:
        """A loss of the last observed batch that trains the student too, if the teacher has one; asked for once a batch."""
        return None
