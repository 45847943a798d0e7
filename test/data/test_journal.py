"""Journals: what a kill leaves is read and written over; what no kill leaves is refused."""

import pytest

from espnet2_kd.data.journal import Journal
from espnet2_kd.data.problems import DataError

ENTRIES = [{"head": 1}, "ä\r\n\u2028", [1.5, None]]


def test_entries_come_back_in_order(tmp_path):
    journal = Journal(tmp_path / "sub/work.jsonl")
    assert journal.read() == []
    journal.append(ENTRIES[0])
    journal.append(*ENTRIES[1:])
    journal.append()
    assert Journal(journal.path).read() == ENTRIES
    journal.rewrite(ENTRIES[1])
    assert journal.read() == ENTRIES[1:2]


def test_a_cut_at_any_byte_loses_the_cut_line_only(tmp_path):
    journal = Journal(tmp_path / "work.jsonl")
    journal.append(*ENTRIES)
    whole = journal.path.read_bytes()
    for cut in range(len(whole)):
        journal.path.write_bytes(whole[:cut])
        kept = ENTRIES[: whole[:cut].count(b"\n")]
        assert journal.read() == kept
        journal.append("more")
        assert journal.read() == [*kept, "more"]


def test_a_damaged_line_is_named(tmp_path):
    journal = Journal(tmp_path / "work.jsonl")
    journal.append(*ENTRIES)
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"head"', b'"head'))
    with pytest.raises(DataError, match=r"work.jsonl:1: -: is damaged: move the file away"):
        journal.read()
