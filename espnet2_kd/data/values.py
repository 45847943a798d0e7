"""What the values of a data directory's tables have to look like, each line by itself.

`passes` looks at a whole block at once, and may well refuse one without fault; `look` lists the problems of its rows.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from espnet2_kd.data.blocks import Block
from espnet2_kd.data.entry import audio_path, is_command
from espnet2_kd.data.ids import all_safe, id_fault
from espnet2_kd.data.problems import Problem
from espnet2_kd.data.table import Row

_RESERVED = ("#0", "<s>", "</s>", "<blank>", "<sos/eos>")
_RESERVED_BYTES = tuple(word.encode() for word in _RESERVED)


class ValueCheck:
    """The check of a table whose values may be anything."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)
        self.problems: list[Problem] = []

    def add(self, block: Block) -> None:
        """Check the values of a block."""
        if block.rows is not None or not self.passes(block):
            self.problems += self.look(block.as_rows())

    def passes(self, block: Block) -> bool:
        """Tell of a block of plain lines whether no value can be wrong."""
        return True

    def look(self, rows: Iterable[Row]) -> Iterator[Problem]:
        """List the problems of rows."""
        yield from ()

    def all_problems(self) -> list[Problem]:
        """Give what was found in all blocks."""
        return self.problems


class WordCheck(ValueCheck):
    """Transcripts: words, none of them reserved."""

    def __init__(self, file: Path, allow_empty: bool) -> None:
        super().__init__(file)
        self.allow_empty = allow_empty

    def passes(self, block: Block) -> bool:
        # All but one of the reserved words begin with a bracket, which few texts have.
        reserved = _RESERVED_BYTES if b"<" in block.data else _RESERVED_BYTES[:1]
        return b"" not in block.values and not any(word in block.data for word in reserved)

    def look(self, rows: Iterable[Row]) -> Iterator[Problem]:
        for row in rows:
            if not row.value.strip():
                remedy = "write its words, or drop it: python -m espnet2_kd.bin.data_dir filter"
                yield Problem(self.file, row.line, row.key, "empty transcript", remedy, fatal=not self.allow_empty)
            reserved = sorted(set(_RESERVED).intersection(row.value.split()))
            if reserved:
                what = f"reserved symbol {' '.join(reserved)}"
                yield Problem(self.file, row.line, row.key, what, "remove it from the words")


class NumberCheck(ValueCheck):
    """Durations and numbers of samples: finite numbers."""

    def passes(self, block: Block) -> bool:
        return _all_finite(block.values)

    def look(self, rows: Iterable[Row]) -> Iterator[Problem]:
        for row in rows:
            if number(row.value) is None:
                what = f"not a number: {row.value!r}"
                yield Problem(self.file, row.line, row.key, what, "remove the file; it is derived from the audio")


class AudioEntryCheck(ValueCheck):
    """Entries of wav.scp: paths, of files that are there with `need_audio`, or commands where they are allowed."""

    def __init__(self, file: Path, need_audio: bool, allow_pipes: bool) -> None:
        super().__init__(file)
        self.need_audio, self.allow_pipes = need_audio, allow_pipes

    def passes(self, block: Block) -> bool:
        if b"" in block.values or b"|" in block.data:
            return False
        if not self.need_audio:
            return True
        stems = {entry.rstrip(b"0123456789") for entry in block.values}
        if all(stem.endswith(b".ark:") and len(stem) > len(b".ark:") for stem in stems) and stems.isdisjoint(
            block.values
        ):
            # Neighbours mostly lie in the same archive.
            return all(os.path.isfile(stem[:-1]) for stem in stems)
        return all(map(os.path.isfile, block.values))

    def look(self, rows: Iterable[Row]) -> Iterator[Problem]:
        for row in rows:
            entry = row.value.strip()
            if not entry:
                yield Problem(self.file, row.line, row.key, "no path", "write the path of the audio file")
            elif is_command(entry):
                if not self.allow_pipes:
                    remedy = "convert the audio to files, or allow commands: --allow_pipes true"
                    yield Problem(self.file, row.line, row.key, f"is a command, not a file: {entry}", remedy)
            elif self.need_audio and not os.path.isfile(audio_path(entry)):  # Path.is_file raises for a name too long
                remedy = f"correct the path (relative paths start at {Path.cwd()})"
                yield Problem(self.file, row.line, row.key, f"file not found: {audio_path(entry)}", remedy)


class SpeakerCheck(ValueCheck):
    """Speakers in utt2spk: safe ids; a warning where they do not begin the ids of their utterances."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.first_loose: tuple[int, bytes, bytes] | None = None
        self.num_loose = 0

    def passes(self, block: Block) -> bool:
        if not all_safe(set(block.values)):
            return False
        prefixed = list(map(bytes.startswith, block.keys, block.values))
        if not all(prefixed):
            at = prefixed.index(False)
            self._loose(block.numbers[at], block.keys[at], block.values[at], prefixed.count(False))
        return True

    def _loose(self, line: int, utt: bytes, spk: bytes, num: int = 1) -> None:
        self.first_loose = self.first_loose or (line, utt, spk)
        self.num_loose += num

    def look(self, rows: Iterable[Row]) -> Iterator[Problem]:
        for row in rows:
            fault = id_fault(row.value)
            if fault:
                what = f"unsafe speaker id {row.value!r}, it {fault}"
                yield Problem(self.file, row.line, row.key, what, "give one plain speaker id")
            elif not row.key.startswith(row.value):
                self._loose(row.line, row.key.encode(), row.value.encode())

    def all_problems(self) -> list[Problem]:
        if self.first_loose is None:
            return self.problems
        line, utt, spk = self.first_loose
        more = f" (and {self.num_loose - 1} more)" if self.num_loose > 1 else ""
        what = f"utterance id does not start with its speaker {spk.decode()!r}{more}"
        remedy = "harmless here; Kaldi's own tools want speaker-prefixed ids"
        return [*self.problems, Problem(self.file, line, utt.decode(), what, remedy, fatal=False)]


class SegmentCheck(ValueCheck):
    """Segments: `recording start end` in seconds."""

    def passes(self, block: Block) -> bool:
        fields = [value.split(b" ") for value in block.values]
        if set(map(len, fields)) != {3}:
            return False
        _, starts, ends = zip(*fields)
        if not _all_finite(starts) or not _all_finite(ends):
            return False
        starts, ends = list(map(float, starts)), list(map(float, ends))
        return min(starts) >= 0 and all(map(operator.lt, starts, ends))

    def look(self, rows: Iterable[Row]) -> Iterator[Problem]:
        for row in rows:
            fields = segment(row.value)
            if fields is None:
                what = f"not 'utterance recording start end': {row.value!r}"
                yield Problem(self.file, row.line, row.key, what, "write times in seconds")
                continue
            _, start, end = fields
            if start < 0 or (end <= start and end != -1):
                what = f"ends at {end:g} s but starts at {start:g} s"
                yield Problem(self.file, row.line, row.key, what, "write start < end (or -1: to the end)")


def segment(value: str) -> tuple[str, float, float] | None:
    """Give recording, start and end of a line of segments, None where it has another form."""
    fields = value.split()
    times = [number(field) for field in fields[1:]]
    if len(fields) != 3 or None in times:
        return None
    return fields[0], times[0], times[1]


def number(field: str) -> float | None:
    """Read a finite number, None where it is none."""
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _all_finite(fields: Sequence[bytes]) -> bool:
    try:
        return all(map(math.isfinite, map(float, fields)))
    except ValueError:
        return False
