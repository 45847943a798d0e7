"""One table of a data directory, read through with bounded memory: its lines checked, its keys in byte order."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from espnet2_kd.data.blocks import Block, NotPlainError, Piece, read_blocks, read_pieces, read_speakers
from espnet2_kd.data.ids import all_safe, id_fault
from espnet2_kd.data.problems import Problem
from espnet2_kd.data.sorting import sorted_lines
from espnet2_kd.data.table import Row
from espnet2_kd.data.values import ValueCheck

FIX = "python -m espnet2_kd.bin.data_dir fix"
_WORDS = ("text", "transcript", "label")
_BLOCK_KEYS = 4096
_Keys = tuple[Sequence[int], tuple[bytes, ...]]


class TableScan:
    """A table, and what is wrong with its bytes, its lines, its order and its values, found by `check`.

    `repeated` are the lines whose key an earlier line has: only the first line of a key counts. `plain` says of a spk2utt
    that it can be read in pieces.
    """

    def __init__(self, path: Path, value_check: type[ValueCheck] = ValueCheck, **options: bool) -> None:
        self.path = path
        self._make_values = lambda: value_check(path, **options)
        self.plain = path.name == "spk2utt"
        self._start()

    def _start(self) -> None:
        self.reading: list[Problem] = []
        self.lines: list[Problem] = []
        self.duplicates: list[Problem] = []
        self.repeated: set[int] = set()
        self.in_order = True
        self.num_rows = 0
        self.values = self._make_values()
        self._last: tuple[bytes, int, bytes] | None = None

    def problems(self) -> list[Problem]:
        """Give what is wrong with the lines and their order; `values` has the rest."""
        return [*self.reading, *self.lines, *self.duplicates]

    def check(self) -> Iterator[_Keys]:
        """Read and check the table; give numbers and keys of its lines, each key once as long as they are in order."""
        try:
            yield from self._check()
        except (NotPlainError, OSError):
            if not self.plain:
                raise
            self.plain = False
            self._start()
            yield from self._check()

    def _check(self) -> Iterator[_Keys]:
        for block in self._blocks(self.reading):
            self.num_rows += len(block.keys)
            if not self._passes(block):
                block = self._look(block)
            if block.keys:
                self.values.add(block)
                self._last = block.keys[-1], block.numbers[-1], block.values[-1]
                yield block.numbers, block.keys

    def finish(self) -> None:
        """Find the duplicates of a table that was checked and is not in order; look at its values without them."""
        if self.in_order:
            return
        self.duplicates, self.repeated = [], set()
        for _ in self._sorted():
            pass
        self.duplicates.sort(key=lambda problem: problem.line)
        if self.repeated:
            self.values = self._make_values()
            for block in self.blocks():
                self.values.add(block)

    def blocks(self) -> Iterator[Block]:
        """Read a checked table once more, without repeated lines."""
        for block in self._blocks([]):
            yield block.without(self.repeated)

    def keys(self) -> Iterator[_Keys]:
        """Give numbers and keys of a checked table in byte order, each key once."""
        if not self.in_order:
            yield from self._sorted()
            return
        for block in self.blocks():
            if block.keys:
                yield block.numbers, block.keys

    def pieces(self) -> Iterator[Piece]:
        """Read a checked spk2utt as utterances of speakers, without repeated lines."""
        if self.plain:
            for piece in read_pieces(self.path):
                if piece.number not in self.repeated:
                    yield piece
            return
        for block in self.blocks():
            for row in block.as_rows():
                yield Piece(row.line, row.key.encode(), [utt.encode() for utt in row.value.split()], True)

    def _blocks(self, problems: list[Problem]) -> Iterator[Block]:
        return read_speakers(self.path) if self.plain else read_blocks(self.path, problems)

    def _passes(self, block: Block) -> bool:
        if block.rows is not None or not all_safe(block.keys):
            return False
        if not self.in_order:
            return True
        keys = block.keys
        if self._last is not None and keys[0] <= self._last[0]:
            return False
        return all(map(operator.lt, keys, islice(keys, 1, None)))

    def _look(self, block: Block) -> Block:
        """Check a block line by line; give it without repeated keys."""
        file, fix = str(self.path), f"{FIX} --normalise {self.path.parent}"
        repeated = set()
        for row, key, value in zip(block.as_rows(), block.keys, block.values):
            fault = id_fault(row.key)
            if fault:
                what = f"unsafe id, it {fault}"
                self.lines.append(Problem(file, row.line, row.key, what, "rename it in every file"))
            for odd in row.odd:
                self.lines.append(Problem(file, row.line, row.key, f"{odd} in the line", fix))
            if not row.odd and self.path.name in _WORDS and ("  " in row.value or row.value.endswith(" ")):
                self.lines.append(Problem(file, row.line, row.key, "repeated or trailing spaces", fix))
            if self.in_order and self._last is not None and key <= self._last[0]:
                if key == self._last[0]:
                    self._repeated(row.key, self._last[1], row.line, value == self._last[2])
                    repeated.add(row.line)
                    continue
                self.in_order = False
                remedy = f"LC_ALL=C sort -o {file} {file}, or: {FIX} {self.path.parent}"
                self.lines.append(Problem(file, row.line, row.key, "not in LC_ALL=C order", remedy))
            self._last = key, row.line, value
        return block.without(repeated)

    def _repeated(self, key: str, first: int, line: int, same: bool) -> None:
        what = f"duplicate id, lines {first} and {line} ({'same' if same else 'different'} content)"
        remedy = "remove one of the lines, or rename one of the ids in every file"
        self.duplicates.append(Problem(str(self.path), line, key, what, remedy))
        self.repeated.add(line)

    def _sorted(self) -> Iterator[_Keys]:
        """Give each key once, sorted on disk, with the number of its first line, and find the duplicates on the way."""
        numbers: list[int] = []
        keys: list[bytes] = []
        first: list[bytes] = [b""]
        for record in sorted_lines(self._records()):
            key, line, content = record.split()
            if key == first[0]:
                if int(line) not in self.repeated:
                    self._repeated(key.decode(), int(first[1]), int(line), content == first[2])
                continue
            first = [key, line, content]
            numbers.append(int(line))
            keys.append(key)
            if len(keys) == _BLOCK_KEYS:
                yield numbers, tuple(keys)
                numbers, keys = [], []
        if keys:
            yield numbers, tuple(keys)

    def _records(self) -> Iterator[bytes]:
        for block in self._blocks([]):
            for number, key, value in zip(block.numbers, block.keys, block.values):
                yield b"%s %012d %s\n" % (key, number, hashlib.blake2b(value, digest_size=8).hexdigest().encode())


def first_rows(scan: TableScan) -> Iterator[Row]:
    """Give the rows of a checked table, the first of each key."""
    for block in scan.blocks():
        yield from block.as_rows()
