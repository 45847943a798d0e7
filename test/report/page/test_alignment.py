"""Alignments read from sclite's output are those of the texts that went in."""

import re

import pytest

from espnet2_kd.data.problems import DataError
from espnet2_kd.report.page.alignment import read_alignments
from espnet2_kd.report.page.errors import errors_by_length, length_edges, word_errors
from espnet2_kd.report.score import score_set

from .conftest import SCLITE

pytestmark = pytest.mark.skipif(SCLITE is None, reason="sclite is not installed")


def score(folder, pairs):
    for name, place in (("ref", 0), ("hyp", 1)):
        (folder / name).write_text("".join(f"{utt} {texts[place]}\n" for utt, texts in pairs.items()))
    (folder / "utt2spk").write_text("".join(f"{utt} s-{utt}\n" for utt in pairs))
    score_set(folder / "ref", folder / "hyp", folder / "utt2spk", folder)
    return folder


PAIRS = {
    "a": ("turn the light on", "turn light off now"),
    "tags": ("</script><script>x</script> <img src=x>", "<img src=x>"),
    "wide": ("你好 世界 hello wörld 🙂", "你好 hello wörl 🙂 世界"),
    "rtl": ("שלום עולם מרחבא", "שלום מרחבא"),
    "stars": ("* ** a*b", "** a*b ***"),
    "marks": ("(a) {b} @ ; %28", "a {b} @ %28 ;"),
    "empty-hyp": ("play", ""),
    "long": ("x" * 1000 + " end", "y end"),
    "same": ("all is well", "all is well"),
}


def test_steps_are_the_texts(tmp_path):
    found = read_alignments(score(tmp_path, PAIRS) / "score_wer")
    assert found.keys() == PAIRS.keys()
    for utt, (ref, hyp) in PAIRS.items():
        steps = found[utt].steps
        # Words above 200 bytes are told by their beginning.
        refs = [word if len(word) < 200 else f"{word[:40]}…" for word in ref.split()]
        assert [word for word, _ in steps if word is not None] == refs == found[utt].reference
        assert [word for _, word in steps if word is not None] == hyp.split()
        assert (None, None) not in steps
        counts = found[utt].counts
        assert counts.errors == sum(one != other for one, other in steps)
        assert found[utt].speaker == f"s-{utt}"


def test_what_sclite_garbles_is_left_out(tmp_path):
    """A shortened word that is left out: sclite prints something of its own, over two lines."""
    pairs = {"a": ("one two", "two"), "b": ("x" * 1000 + " end", "end")}
    assert read_alignments(score(tmp_path, pairs) / "score_wer").keys() == {"a"}


def test_characters(tmp_path):
    found = read_alignments(score(tmp_path, {"u": ("你好世界", "你世界吗")}) / "score_cer")
    assert found["u"].steps == (("你", "你"), ("好", None), ("世", "世"), ("界", "界"), (None, "吗"))


def test_what_does_not_agree_is_left_out(tmp_path):
    folder = score(tmp_path, PAIRS) / "score_wer"
    path = folder / "result.txt"
    path.write_text(re.sub(r"(id: \(s%2Da-a\)\nScores: \(#C #S #D #I\)) 2 1 1 1", r"\1 9 1 1 1", path.read_text()))
    assert read_alignments(folder).keys() == PAIRS.keys() - {"a"}
    path.unlink()
    with pytest.raises(DataError, match="score again"):
        read_alignments(folder)


def test_most_frequent_errors(tmp_path):
    pairs = {"1": ("a b c", "a x c"), "2": ("a b c", "a x c d"), "3": ("a b", "b"), "4": ("c", "d c")}
    errors = word_errors(read_alignments(score(tmp_path, pairs) / "score_wer").values())
    assert errors.confused == [("b", "x", 2)]
    assert errors.deleted == [("a", 1)]
    assert errors.inserted == [("d", 2)]


def test_errors_by_length():
    edges = length_edges([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0])
    assert edges == [1, 3, 5, 7, 9]
    seeds = [[(1, 1, 1), (2, 0, 2), (9, 3, 9), (0, 7, 0)], [(1, 0, 1), (2, 1, 2), (9, 0, 9), (0, 7, 0)]]
    bins = errors_by_length(seeds, edges)
    assert [one.label for one in bins] == ["1–2", "3", "5", "7", "9"]
    assert [one.num_utts for one in bins] == [2, 0, 0, 0, 1]
    assert bins[0].rate == pytest.approx(100 * 2 / 6) and bins[-1].rate == pytest.approx(100 * 3 / 18)
    assert bins[1].rate is None
    assert length_edges([5, 5, 5]) == [5] and length_edges([0]) == []
