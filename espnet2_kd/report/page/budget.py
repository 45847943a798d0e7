"""How large the page may become, and what did not fit."""

from __future__ import annotations

from collections import Counter


class Budget:
    """Counts bytes that are put into the page; what does not fit any more is left out, and counted too."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.kept: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def take(self, kind: str, size: int) -> bool:
        """Whether `size` bytes of a kind still fit; if so they are taken."""
        fits = size <= self.left
        (self.kept if fits else self.left_out)[kind] += 1
        if fits:
            self.left -= size
        return fits

    def refuse(self, kind: str, count: int = 1) -> None:
        """Count what was not even tried."""
        if count > 0:
            self.left_out[kind] += count
