"""Sorting of more lines than memory holds."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice

from espnet2_kd.data.problems import one_problem

# So many lines are sorted in memory; for more, starting a program costs nothing.
IN_MEMORY = 20_000
# What `sort` may take before it writes sorted runs to the folder for temporary files.
_BUFFER = "64M"


def sorted_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Give lines, each with its newline, in byte order; many are sorted on disk, in bounded memory.

    Where no byte of a first field is below a blank, that is the order of the first fields. Raises DataError when there is
    no room for temporary files ($TMPDIR).
    """
    lines = iter(lines)
    few = list(islice(lines, IN_MEMORY + 1))
    if len(few) <= IN_MEMORY:
        yield from sorted(few, key=lambda line: line[:-1])
        return
    # One thread: the machine may be busy with other things, and `nj` does not count here.
    command = ["sort", "--parallel=1", "-S", _BUFFER, "-T", tempfile.gettempdir()]
    environment = {**os.environ, "LC_ALL": "C"}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    taken = read_whole = False
    try:
        try:
            # It says nothing before it has read everything, so neither side can wait for the other.
            process.stdin.writelines(chain(few, lines))
            del few
            process.stdin.close()
            taken = True
        except BrokenPipeError:
            pass  # it ended early, and said why
        yield from process.stdout
        read_whole = True
    finally:
        # Whoever reads may stop early, and lines may fail to come: nobody waits for the rest then.
        if not read_whole:
            process.kill()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()
    if process.returncode or not taken:
        raise one_problem(tempfile.gettempdir(), "sort failed, see above", "make room there, or set TMPDIR")
