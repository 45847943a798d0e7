"""Tables read a block of lines at a time, so that memory does not grow with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet2_kd.data.problems import Problem
from espnet2_kd.data.table import ODD, Row, parse_line

# Small enough for the cache of a core, large enough that the work for a block hides in that for its lines.
BLOCK_BYTES = 1 << 18
_BLOCK_LINES = 4096
_PLAIN = bytes(range(0x20, 0x7F)) + b"\n"
_NO_SEPARATORS = bytes(byte for byte in range(0x100) if byte not in b" \n")


class NotPlainError(Exception):
    """Raised where a table has to be read line by line."""


@dataclass
class Block:
    """Neighbouring lines: their numbers, keys and values; `rows` where a line is not just `key value`.

    `data` is how they stand in the file, without the last line end.
    """

    numbers: Sequence[int]
    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]
    data: bytes = b""
    rows: list[Row] | None = None

    @classmethod
    def of_rows(cls, rows: list[Row]) -> Block:
        """Make a block that is to be looked at row by row."""
        keys, values = (tuple(getattr(row, name).encode() for row in rows) for name in ("key", "value"))
        return cls([row.line for row in rows], keys, values, rows=rows)

    def as_rows(self) -> list[Row]:
        """Give what `read_rows` would."""
        if self.rows is not None:
            return self.rows
        columns = zip(self.numbers, self.keys, self.values)
        return [Row(number, key.decode(), value.decode()) for number, key, value in columns]

    def without(self, numbers: set[int]) -> Block:
        """Leave out some lines."""
        if numbers.isdisjoint(self.numbers):
            return self
        return Block.of_rows([row for row in self.as_rows() if row.line not in numbers])


def is_plain(data: bytes) -> bool:
    """Tell whether every line of `data`, without the last line end, is words with one blank between them."""
    if not data or data[:1] in b" \n" or data[-1:] in b" \n":
        return False
    return has_no_odd(data) and not (b"  " in data or b" \n" in data or b"\n " in data or b"\n\n" in data)


def has_no_odd(data: bytes) -> bool:
    """Tell whether `data` is UTF-8 without odd characters."""
    rest = data.translate(None, _PLAIN)
    if not rest:
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return ODD.search(rest.decode()) is None


def _columns(data: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]] | None:
    """Give keys and values of plain lines `key` or `key value`, None where a line is not plain."""
    separators = data.translate(None, _NO_SEPARATORS)
    num = (len(separators) + 1) // 2
    if num and separators == (b" \n" * num)[:-1]:
        # One blank in each line, as most tables have it: no need to look at each.
        words = data.split()
        return (tuple(words[::2]), tuple(words[1::2])) if len(words) == 2 * num and has_no_odd(data) else None
    if not is_plain(data):
        return None
    keys, _, values = zip(*[line.partition(b" ") for line in data.split(b"\n")])
    return keys, values


def read_blocks(path: Path, problems: list[Problem]) -> Iterator[Block]:
    """Read a table as `read_rows` does, in blocks; what is wrong with the bytes is added to `problems`."""
    number = 1
    try:
        with open(path, "rb") as stream:
            while data := stream.read(BLOCK_BYTES):
                data += stream.readline()
                ended = data.endswith(b"\n")
                data = data[:-1] if ended else data
                end = number + data.count(b"\n") + 1
                if not ended:
                    what, remedy = "no newline at the end (cut off?)", "check the last line, add a newline"
                    problems.insert(0, Problem(str(path), end - 1, "-", what, remedy))
                columns = _columns(data)
                if columns:
                    yield Block(range(number, end), *columns, data)
                else:
                    rows = [parse_line(path, n, line, problems) for n, line in enumerate(data.split(b"\n"), number)]
                    yield Block.of_rows([row for row in rows if row is not None])
                number = end
    except OSError as error:
        problems.append(Problem(str(path), 0, "-", f"cannot be read ({error.strerror})", "make the file readable"))


@dataclass
class Piece:
    """Utterances of the speaker of a line of spk2utt; where `ends` is false, more of them follow."""

    number: int
    speaker: bytes
    utts: list[bytes]
    ends: bool


def read_pieces(path: Path) -> Iterator[Piece]:
    """Read a spk2utt in pieces, since a line may name all of a corpus; raises NotPlainError where a line is not plain."""
    number, speaker, carry = 0, b"", b"\n"
    with open(path, "rb") as stream:
        while more := stream.read(BLOCK_BYTES):
            data = carry + more
            # What is read starts with a separator and goes on to the last one, which starts the next.
            cut = max(data.rfind(b" "), data.rfind(b"\n"))
            data, carry = data[:cut], data[cut:]
            if cut and not is_plain(data[1:]):
                raise NotPlainError
            lines = data[1:].split(b"\n") if cut else []
            for index, line in enumerate(lines, 1):
                utts = line.split(b" ")
                if index > 1 or data[:1] == b"\n":
                    number, speaker, utts = number + 1, utts[0], utts[1:]
                yield Piece(number, speaker, utts, index < len(lines) or carry[:1] == b"\n")
    if carry != b"\n":
        raise NotPlainError


def read_speakers(path: Path) -> Iterator[Block]:
    """Read a spk2utt in blocks as `read_blocks` does, a hash in place of each value; raises NotPlainError."""
    numbers, keys, values = [], [], []
    content = hashlib.blake2b(digest_size=16)
    for piece in read_pieces(path):
        if piece.utts:
            content.update(b" " + b" ".join(piece.utts))
        if piece.ends:
            numbers.append(piece.number)
            keys.append(piece.speaker)
            values.append(content.hexdigest().encode())
            content = hashlib.blake2b(digest_size=16)
        if len(keys) == _BLOCK_LINES:
            yield Block(numbers, tuple(keys), tuple(values))
            numbers, keys, values = [], [], []
    if keys:
        yield Block(numbers, tuple(keys), tuple(values))
