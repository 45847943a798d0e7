"""MAPSSWE against its definition worked out again, bootstrap intervals against the normal ones and a plain loop."""

import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from espnet2_kd.data.problems import DataError
from espnet2_kd.report.sclite import DEBIAN_FOLDER
from espnet2_kd.report.score import score_set
from espnet2_kd.report.significance import Errors, bootstrap_change, bootstrap_rate, mapsswe

needs_sclite = pytest.mark.skipif(
    shutil.which("sc_stats") is None and shutil.which("sc_stats", path=str(DEBIAN_FOLDER)) is None,
    reason="sclite is not installed",
)


def score(folder: Path, ref: dict[str, str], hyp: dict[str, str]) -> Path:
    """Score a system and give its score_wer folder."""
    folder.mkdir()
    for name, table in (("ref", ref), ("hyp", hyp), ("utt2spk", {utt: utt.split("-")[0] for utt in ref})):
        (folder / name).write_text("".join(f"{utt} {text}\n" for utt, text in table.items()))
    score_set(folder / "ref", folder / "hyp", folder / "utt2spk", folder / "out")
    return folder / "out/score_wer"


def draw_errors(size: int, rate: float) -> tuple[list[str], list[bool]]:
    """Draw for each word `C`, `S` or `D`, and for each gap (before, between, after) whether a word is inserted there.

    No run of wrong words holds both insertions and deletions, so that the alignment is the only cheapest one.
    """
    words = [random.choice("SD") if random.random() < rate else "C" for _ in range(size)]
    gaps = []
    for i in range(size + 1):
        run = "".join(words[:i]).split("C")[-1] + "".join(words[i:]).split("C")[0]
        gaps.append("D" not in run and random.random() < rate / 3)
    return words, gaps


def realise(utt: str, words: list[str], gaps: list[bool]) -> str:
    out = []
    for i, gap in enumerate(gaps):
        out += [f"ins{utt}{i}"] * gap
        if i < len(words):
            out += {"C": [f"{utt}w{i}"], "S": [f"sub{utt}{i}"], "D": []}[words[i]]
    return " ".join(out)


def segment_differences(first: tuple[list[str], list[bool]], second: tuple[list[str], list[bool]]) -> list[int]:
    """Errors of first minus second per segment: errors of either system with less than two good words between."""
    events = []  # (words before it begins, words before it is over, which system)
    for sign, (words, gaps) in ((1, first), (-1, second)):
        events += [(i, i + 1, sign) for i, word in enumerate(words) if word != "C"]
        events += [(i, i, sign) for i, gap in enumerate(gaps) if gap]
    segments: list[list[int]] = []
    over = -math.inf
    for start, end, sign in sorted(events):
        if start - over >= 2:
            segments.append([])
        segments[-1].append(sign)
        over = max(over, end)
    return [sum(segment) for segment in segments]


@needs_sclite
def test_mapsswe_is_its_definition(tmp_path):
    random.seed(11)
    for case, rates in enumerate([(0.15, 0.25), (0.3, 0.3), (0.05, 0.06)]):
        ref, hyps, differences = {}, ({}, {}), []
        for n in range(60):
            utt = f"s{n % 4}-u{n}"
            drawn = [draw_errors(random.randint(1, 20), rates[0])]
            size = len(drawn[0][0])
            drawn.append(draw_errors(size, rates[1]))
            ref[utt] = " ".join(f"{utt}w{i}" for i in range(size))
            for hyp, errors in zip(hyps, drawn, strict=True):
                hyp[utt] = realise(utt, *errors)
            differences += segment_differences(*drawn)
        folders = [score(tmp_path / f"{case}{name}", ref, hyp) for name, hyp in zip("ab", hyps, strict=True)]
        found = mapsswe({1: folders[0]}, {1: folders[1]})
        count, mean, std = len(differences), np.mean(differences), np.std(differences, ddof=1)
        z = mean / (std / math.sqrt(count))
        assert found.segments == count
        assert [found.mean, found.std, found.z] == pytest.approx([mean, std, z], abs=6e-4)
        p = 1 - math.erf(abs(z) / math.sqrt(2))
        assert found.p == pytest.approx(p, abs=1e-3) and found.significant == (p < 0.05)
        assert found.errors[0] - found.errors[1] == sum(differences)
        opposite = mapsswe({1: folders[1]}, {1: folders[0]})
        assert opposite.z == -found.z and opposite.significant == found.significant


@needs_sclite
def test_mapsswe_worked_by_hand(tmp_path):
    """Gillick and Cox, figure 1 in small: three segments, the good words between them at least two."""
    ref = {"s-1": "a b c d e f g h", "s-2": "i j k"}
    first = score(tmp_path / "first", ref, {"s-1": "X b c d e Y g h", "s-2": "i j k"})
    second = score(tmp_path / "second", ref, {"s-1": "a Z c d e f g h", "s-2": "i V W"})
    found = mapsswe({1: first}, {1: second})
    # Segments: "a b" (1 and 1 error), "f" (1 and 0), "j k" (0 and 2); differences 0, 1, -2.
    assert (found.segments, found.errors) == (3, (2, 3))
    assert found.mean == pytest.approx(-1 / 3, abs=6e-4)
    assert found.std == pytest.approx(math.sqrt((1 / 9 + 16 / 9 + 25 / 9) / 2), abs=6e-4)
    assert found.p == pytest.approx(math.erfc((1 / 3) / math.sqrt(7 / 3 / 3) / math.sqrt(2)), abs=1e-3)


def system(folder: Path, ref: dict[str, str], rate: float) -> Path:
    return score(
        folder, ref, {utt: " ".join(w if random.random() > rate else "X" for w in t.split()) for utt, t in ref.items()}
    )


@needs_sclite
def test_identical_different_and_several_seeds(tmp_path):
    random.seed(5)
    ref = {f"s{n % 5}-u{n}": " ".join(f"w{random.randint(0, 99)}" for _ in range(10)) for n in range(150)}
    perfect = {1: score(tmp_path / "perfect", ref, ref)}
    same = mapsswe(perfect, perfect)
    assert (same.p, same.segments, same.significant) == (1.0, 0, False)
    good = {s: system(tmp_path / f"good{s}", ref, 0.10) for s in (1, 2, 3)}
    bad = {s: system(tmp_path / f"bad{s}", ref, 0.20) for s in (1, 2, 3)}
    same = mapsswe(bad, bad)
    assert same.p == 1.0 and not same.significant and same.segments == 150
    one, several = (mapsswe({s: good[s] for s in seeds}, {s: bad[s] for s in seeds}) for seeds in ([1], good))
    assert one.significant and several.significant and several.z < one.z < -2
    by_seed = [mapsswe({s: good[s]}, {s: bad[s]}) for s in good]
    assert several.errors == tuple(np.sum([seed.errors for seed in by_seed], axis=0))
    here, there = (Errors.read(list(folders.values())).errors for folders in (good, bad))
    per_utterance = [sum(here[:, u]) - sum(there[:, u]) for u in range(150)]
    expected = scipy.stats.ttest_1samp(per_utterance, 0.0).statistic
    assert several.z == pytest.approx(expected, rel=1e-9) and several.segments == 150
    # The same three times is no more evidence than once.
    thrice = mapsswe(dict.fromkeys(good, good[1]), dict.fromkeys(good, bad[1]))
    assert thrice.p == pytest.approx(math.erfc(abs(one_by_utterance(good[1], bad[1])) / math.sqrt(2)), rel=1e-9)
    against_perfect = mapsswe(perfect, {1: good[1]})
    assert against_perfect.errors[0] == 0 and against_perfect.significant


def one_by_utterance(first: Path, second: Path) -> float:
    here, there = (Errors.read([folder]).errors[0] for folder in (first, second))
    return float(scipy.stats.ttest_rel(here, there).statistic)


@needs_sclite
def test_systems_must_belong_together(tmp_path):
    first = score(tmp_path / "first", {"s-1": "a b"}, {"s-1": "a c"})
    second = score(tmp_path / "second", {"s-1": "a d"}, {"s-1": "a c"})
    third = score(tmp_path / "third", {"s-2": "a b"}, {"s-2": "a b"})
    with pytest.raises(
        DataError, match=r"first/out/score_wer:0: -: references differ from those of .*second.*same set"
    ):
        mapsswe({1: first}, {1: second})
    with pytest.raises(ValueError, match="seeds must be the same"):
        mapsswe({1: first}, {2: first})
    with pytest.raises(DataError, match=r"third/out/score_wer:0: -: not the utterances of .*first"):
        Errors.read([first, third])


@needs_sclite
def test_errors_are_read_by_utterance(tmp_path):
    ref = {"s1-a": "x y z", "s2-b": "x", "s1-c": "x y"}
    folders = [
        score(tmp_path / "1", ref, {"s1-a": "x q", "s2-b": "x", "s1-c": ""}),
        score(tmp_path / "2", ref, {"s1-a": "x y z", "s2-b": "x x x", "s1-c": "x y"}),
    ]
    read = Errors.read(folders)
    assert read.errors.tolist() == [[2, 2, 0], [0, 0, 2]] and read.units.tolist() == [3, 2, 1]
    assert read.speakers.tolist() == [0, 0, 1] and read.rate == 6 / 12


def test_interval_of_independent_words_is_the_normal_one():
    random = np.random.default_rng(2)
    errors = Errors((random.random((1, 3000)) < 0.2).astype(int), np.ones(3000, int), np.arange(3000) // 3)
    found = bootstrap_rate(errors, "utterance", samples=4000)
    half = 1.96 * math.sqrt(found.value * (1 - found.value) / 3000)
    assert found.value == errors.errors.mean()
    assert found.high - found.value == pytest.approx(half, rel=0.08)
    assert found.value - found.low == pytest.approx(half, rel=0.08)
    assert bootstrap_rate(errors, "utterance") == bootstrap_rate(errors, "utterance")
    assert bootstrap_rate(errors, "utterance", seed=2) != bootstrap_rate(errors, "utterance")


def test_clusters_that_err_as_one_widen_the_interval():
    """Nine utterances of a speaker, all right or all wrong, are worth one: the interval is three times as wide."""
    random = np.random.default_rng(3)
    speakers = np.repeat(np.arange(400), 9)
    errors = Errors((random.random(400) < 0.3).astype(int)[None, speakers], np.ones(3600, int), speakers)
    by_speaker, by_utterance = (bootstrap_rate(errors, cluster, 3000) for cluster in ("speaker", "utterance"))
    ratio = (by_speaker.high - by_speaker.low) / (by_utterance.high - by_utterance.low)
    assert ratio == pytest.approx(3, rel=0.1)
    assert errors.cluster_kind() == "speaker"
    few = Errors(errors.errors, errors.units, speakers // 40)
    assert few.cluster_kind() == "utterance"


def test_change_is_the_plain_double_loop():
    random = np.random.default_rng(4)
    words = random.integers(1, 12, 40)
    base, other = (Errors(random.binomial(words, rate, (3, 40)), words, np.arange(40) // 4) for rate in (0.3, 0.2))
    found = bootstrap_change(base, other, "speaker", samples=4000)
    assert found.value == pytest.approx(other.errors.sum() / base.errors.sum() - 1)
    changes = []
    for _ in range(4000):
        drawn = [u for speaker in random.integers(0, 10, 10) for u in range(4 * speaker, 4 * speaker + 4)]
        sums = [sum(table.errors[seed, drawn].sum() for seed in random.integers(0, 3, 3)) for table in (base, other)]
        changes.append(sums[1] / sums[0] - 1)
    low, high = np.percentile(changes, [2.5, 97.5])
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.015)


def test_identical_systems_do_not_change():
    errors = Errors(np.array([[1, 0, 2, 3]]), np.array([4, 4, 4, 4]), np.array([0, 1, 2, 3]))
    found = bootstrap_change(errors, errors, "utterance")
    assert (found.value, found.low, found.high) == (0, 0, 0)
    perfect = Errors(np.zeros((1, 4), int), errors.units, errors.speakers)
    assert math.isnan(bootstrap_change(perfect, errors, "utterance").value)
    assert bootstrap_change(errors, perfect, "utterance").value == -1
    with pytest.raises(ValueError, match="speaker or utterance"):
        bootstrap_rate(errors, "word")
