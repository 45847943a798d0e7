"""Whether the processes of a training compute something together, or this one something for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """While it lasts nothing waits for other processes: pictures are drawn by one of them, trial batches are each one's own."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def together() -> bool:
    """Whether there are other processes that compute the same now."""
    return not _alone and distributed.is_available() and distributed.is_initialized()
