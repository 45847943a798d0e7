"""More lines than are sorted in memory: their order, and what happens when either side stops early."""

import random
import tempfile

import pytest

from espnet2_kd.data import sorting
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.sorting import sorted_lines

LINES = [b"%d\n" % number for number in random.Random(0).choices(range(10**9), k=30_000)]


@pytest.fixture
def started(monkeypatch):
    """The processes that sorting starts."""
    processes = []

    class Noted(sorting.subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(sorting.subprocess, "Popen", Noted)
    return processes


@pytest.mark.parametrize("num", [0, 1, sorting.IN_MEMORY, sorting.IN_MEMORY + 1, len(LINES)])
def test_order(num, started):
    assert list(sorted_lines(iter(LINES[:num]))) == sorted(LINES[:num], key=lambda line: line[:-1])
    assert [process.returncode for process in started] == [0] * (num > sorting.IN_MEMORY)


def test_a_reader_may_stop_early(started):
    lines = sorted_lines(LINES)
    assert next(lines) == min(LINES, key=lambda line: line[:-1])
    lines.close()
    assert started[0].returncode is not None


def test_a_fault_of_the_lines_is_passed_on(started):
    def spoilt():
        yield from LINES
        raise ValueError("no more lines")

    with pytest.raises(ValueError, match="no more lines"):
        list(sorted_lines(spoilt()))
    assert started[0].returncode is not None


def test_no_room_for_temporary_files(started, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(sorting, "_BUFFER", "1b")
    with pytest.raises(DataError, match=r"missing.*sort failed.*set TMPDIR"):
        list(sorted_lines(LINES))
    assert started[0].returncode
