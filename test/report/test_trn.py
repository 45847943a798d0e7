"""Escaped words and ids: one to one, and free of everything sclite interprets."""

import itertools
import random

import pytest

from espnet2_kd.report.trn import escape, make_id, make_line, speaker_of, split_line, unescape

ALPHABET = "ab(){}@;*\\\"%/<>-_.:,'#28é語\x00\x01\x1f\x7f\x85\u200b"


def test_escape_is_one_to_one_and_undone():
    random.seed(0)
    words = {"".join(random.choices(ALPHABET, k=random.randint(1, 8))) for _ in range(5000)}
    words |= set(map("".join, itertools.product(ALPHABET, repeat=2)))
    escaped = {word: escape(word) for word in words}
    assert len(set(escaped.values())) == len(words)
    assert all(unescape(text) == word for word, text in escaped.items())
    assert not set('(){}@;*\\"\x00\x01\x1f\x7f\x85') & set("".join(escaped.values()))


def test_plain_words_stay_as_they_are():
    for word in ("and/or", "don't", "<unk>", "<space>", "▁the", "é", "語", "x-", "3.14", "a:b", "#"):
        assert escape(word) == word
    assert escape("(50%)") == "%2850%25%29"


def test_long_words_are_shortened_but_stay_different():
    words = ["a" * 3000, "a" * 3001, "a" * 2999 + "b", "語" * 1000]
    short = [escape(word) for word in words]
    assert len(set(short)) == len(words) and all(len(text.encode()) <= 200 for text in short)
    assert escape("x" * 200) == "x" * 200
    with pytest.raises(ValueError, match="shortened"):
        unescape(short[0])


def test_ids_are_unique_and_name_the_speaker():
    pairs = [("a-b", "c"), ("a", "b-c"), ("a_b", "c"), ("a", "b_c"), ("a.b/1", "u(1)"), ("Sum/Avg", "u"), ("s", "")]
    ids = [make_id(*pair) for pair in pairs]
    assert len(set(ids)) == len(pairs)
    assert all("-" in trn_id and not set('()" /') & set(speaker_of(trn_id)) for trn_id in ids)
    assert [unescape(speaker_of(trn_id)) for trn_id in ids] == [speaker for speaker, _ in pairs]


def test_lines_split_again():
    for words in ([], ["a"], ["(a)", "\t", "b"]):
        line = make_line(words, make_id("s", "u\t1"))
        assert line.count("\t") == 1 and line.endswith(")\n")
        assert split_line(line) == (" ".join(map(escape, words)), "s-u%091")
