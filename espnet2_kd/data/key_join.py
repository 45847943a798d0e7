"""Tables in byte order, read side by side: which keys one has and another lacks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Numbers of lines, or whatever else belongs to each key, and keys.
Keys = tuple[Sequence[Any], tuple[bytes, ...]]


@dataclass
class Difference:
    """Numbers and keys of lines of the reference that a table lacks, and of its own that the reference lacks."""

    missing: list[tuple[int, bytes]] = field(default_factory=list)
    extra: list[tuple[int, bytes]] = field(default_factory=list)


class _Cursor:
    def __init__(self, blocks: Iterator[Keys]) -> None:
        self.blocks = blocks
        self.numbers: Sequence[Any] = ()
        self.keys: tuple[bytes, ...] = ()
        self.at = 0

    def fill(self) -> bool:
        """Have keys at hand, if there are more."""
        while self.at == len(self.keys):
            block = next(self.blocks, None)
            if block is None:
                return False
            (self.numbers, self.keys), self.at = block, 0
        return True

    def take(self, last: bytes) -> Keys:
        """Give what comes up to key `last`."""
        begin, self.at = self.at, bisect_right(self.keys, last, self.at)
        return self.numbers[begin : self.at], self.keys[begin : self.at]


def side_by_side(
    tables: Sequence[Iterator[Keys]], go_on: Callable[[], bool] = lambda: True
) -> Iterator[Sequence[Keys]]:
    """Cut tables, each in order and without repetition, at the same keys: a stretch of every one at a time.

    `go_on` is asked before each stretch; where it says no, the rest is not read.
    """
    cursors = [_Cursor(table) for table in tables]
    while live := [cursor for cursor in cursors if cursor.fill()]:
        if not go_on():
            return
        last = min(cursor.keys[-1] for cursor in live)
        yield [cursor.take(last) for cursor in cursors]


def differences(
    reference: Iterator[Keys], others: Mapping[str, Iterator[Keys]], go_on: Callable[[], bool] = lambda: True
) -> dict[str, Difference]:
    """Compare the keys of tables with those of `reference`, as `side_by_side` has them."""
    found = {name: Difference() for name in others}
    for (numbers, keys), *parts in side_by_side([reference, *others.values()], go_on):
        for difference, (other_numbers, other_keys) in zip(found.values(), parts):
            if keys != other_keys:
                here, there = set(keys), set(other_keys)
                difference.missing += [pair for pair in zip(numbers, keys) if pair[1] not in there]
                difference.extra += [pair for pair in zip(other_numbers, other_keys) if pair[1] not in here]
    return found
