"""Tests of significance against sums written out, scipy's permutation test and chance itself."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from espnet2_kd.report.intent_significance import compare_seeds, mcnemar, randomisation_p, welch


def coin(wins: int, losses: int) -> float:
    """Two-sided probability of so uneven a split."""
    num, few = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(math.comb(num, k) for k in range(few + 1)) / 2**num)


def split(lost: int, won: int, both: int = 20, neither: int = 10) -> tuple[np.ndarray, np.ndarray]:
    base = [True] * (lost + both) + [False] * (won + neither)
    system = [False] * lost + [True] * (both + won) + [False] * neither
    return np.array(base), np.array(system)


def correlated_seeds(rng, num_utts: int, num_seeds: int) -> np.ndarray:
    """Seeds of one system (S, U): whether an utterance is hard is the same for all."""
    easy = rng.beta(0.3, 0.3, num_utts)
    return rng.random((num_seeds, num_utts)) < easy


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 9), (9, 1), (5, 5), (0, 6), (59, 121), (3, 4)])
def test_mcnemar_written_out(lost, won):
    test = mcnemar(*split(lost, won))
    assert (test.lost, test.won) == (lost, won)
    assert test.p == pytest.approx(coin(won, lost), rel=1e-9)


def test_mcnemar_by_hand():
    # 9 of 10 on one side: 2 (1 + 10) / 1024.
    assert mcnemar(*split(1, 9)).p == pytest.approx(0.021484375)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 9), (9, 1), (5, 5), (59, 121), (200, 300)])
def test_one_seed_is_mcnemar(lost, won):
    base, system = split(lost, won)
    assert randomisation_p(system.astype(int) - base) == pytest.approx(coin(won, lost), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_all_swaps_counted_one_by_one(seed):
    differences = np.random.default_rng(seed).integers(-3, 5, 11)
    total = abs(differences.sum())
    sums = [abs(sum(signs * differences)) for signs in itertools.product((-1, 1), repeat=11)]
    assert randomisation_p(differences) == pytest.approx(np.mean(np.array(sums) >= total))


def test_scipys_permutation_test():
    rng = np.random.default_rng(3)
    base, system = rng.integers(0, 4, 12), rng.integers(0, 6, 12)
    expected = scipy.stats.permutation_test(
        (system, base), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
    )
    assert randomisation_p(system - base) == pytest.approx(expected.pvalue)


def test_seeds_that_repeat_each_other_prove_nothing_more():
    base, system = split(4, 12)
    one = compare_seeds("b", {1: base}, {1: system})
    five = compare_seeds("b", dict.fromkeys(range(5), base), dict.fromkeys(range(5), system))
    assert five.p == pytest.approx(one.p) == pytest.approx(coin(12, 4))
    assert coin(5 * 12, 5 * 4) < 1e-4 < one.p
    assert five.points == one.points == pytest.approx(100 * 8 / 46)


def test_false_alarms_are_as_rare_as_promised():
    """Equal systems whose seeds share the hard utterances: pooled counts would cry wolf."""
    rng = np.random.default_rng(7)
    ours, pooled = [], []
    for _ in range(400):
        # Either system has its own idea of what is hard; on average over utterances they are equal.
        there, here = (correlated_seeds(rng, 60, 5) for _ in range(2))
        ours.append(randomisation_p(here.sum(0) - there.sum(0)))
        pooled.append(coin(int((here & ~there).sum()), int((there & ~here).sum())))
    # 400 draws at 5 %: 8.3 % would be three standard deviations too many.
    assert np.mean(np.array(ours) < 0.05) < 0.083
    assert np.mean(np.array(pooled) < 0.05) > 0.2


def test_a_real_difference_is_found():
    rng = np.random.default_rng(1)
    base = rng.random((5, 400)) < 0.70
    system = base | (rng.random((5, 400)) < 0.4)
    change = compare_seeds("b", dict(enumerate(base)), dict(enumerate(system)))
    assert change.p < 1e-6 and change.over_seeds.p < 0.01
    assert change.over_seeds.low < change.points < change.over_seeds.high
    assert change.points == pytest.approx(100 * (system.mean() - base.mean()))


def test_welch_written_out():
    a, b = [80.0, 82.5, 81.0, 79.0, 83.0], [84.0, 85.5, 83.5]
    parts = [(np.mean(x), np.var(x, ddof=1) / len(x), len(x)) for x in (a, b)]
    error = math.sqrt(parts[0][1] + parts[1][1])
    freedom = error**4 / sum(variance**2 / (num - 1) for _, variance, num in parts)
    difference = parts[1][0] - parts[0][0]
    half = scipy.stats.t.ppf(0.975, freedom) * error
    test = welch(a, b)
    assert test.p == pytest.approx(2 * scipy.stats.t.sf(abs(difference) / error, freedom))
    assert (test.low, test.high) == pytest.approx((difference - half, difference + half))


def test_too_few_seeds_or_no_spread_say_nothing():
    assert welch([80.0], [81.0, 82.0]) is None
    assert welch([80.0, 80.0], [81.0, 81.0]) is None
    # One side is enough: its own variance, its own degrees of freedom.
    assert welch([80.0, 80.0], [81.0, 83.0]).p == pytest.approx(2 * scipy.stats.t.sf(2.0, 1))
    base, system = split(2, 5)
    assert compare_seeds("b", {1: base}, {1: system}).over_seeds is None


def test_only_common_seeds_count():
    base, system = split(2, 5)
    change = compare_seeds("b", {1: base, 2: base}, {2: system, 3: base})
    assert change.seeds == (2,) and change.by_seed[2].won == 5
    assert compare_seeds("b", {1: base}, {2: system}) is None


def test_rates_are_no_counts():
    with pytest.raises(TypeError, match="whole numbers"):
        randomisation_p(np.array([0.5, -0.2]))
