"""Is one intent classifier better than another on these utterances, and would other seeds say the same?

Every seed is tested on the same utterances, so that (seed, utterance) are not independent trials and counts pooled over
seeds would make a chance look like a certainty. Two questions are therefore answered apart:

* over utterances, for the trainings at hand: McNemar's exact test seed by seed, and for all seeds together the exact
  randomisation test of the utterances' paired differences, which for a single seed is the same as McNemar's;
* over seeds, for the set at hand: Welch's t-test of the accuracies of the trainings.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, binomtest, ttest_ind


@dataclass(frozen=True)
class McNemar:
    """What two trainings disagree on: utterances that only the base, or only the other, gets right; two-sided p."""

    lost: int
    won: int
    p: float


@dataclass(frozen=True)
class SeedTest:
    """Two-sided p of no difference of the expected accuracies, and the 95 % interval of that difference in points."""

    p: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """A system against its base on one set, over the seeds that both have.

    points: difference of the mean accuracies in percent, positive where the system is better.
    by_seed: McNemar's test of each seed.
    p: of the differences per utterance, all seeds together.
    over_seeds: None where seeds are too few, or too much alike, to tell.
    """

    base: str
    seeds: tuple[int, ...]
    points: float
    by_seed: dict[int, McNemar]
    p: float
    over_seeds: SeedTest | None


def mcnemar(base: np.ndarray, system: np.ndarray) -> McNemar:
    """Compare two trainings, (U,) bool each, by McNemar's exact test: disagreements fall to either side like a coin.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 1947; its binomial form.
    """
    lost, won = int((base & ~system).sum()), int((system & ~base).sum())
    return McNemar(lost, won, float(binomtest(won, lost + won).pvalue) if lost + won else 1.0)


def randomisation_p(differences: np.ndarray) -> float:
    """Give the two-sided p of so large a sum of paired differences (U,), whole numbers, if each had either sign alike.

    Under the hypothesis that both systems are alike on an utterance, swapping them there changes nothing; what is
    swapped is the utterance with all of its seeds, so that these may depend on each other as they like. All 2^U
    swaps count, by convolution and not by drawing. With differences of -1, 0 and 1 it is McNemar's exact test.
    Fisher's randomisation test; Yeh, "More accurate tests for the statistical significance of result differences",
    COLING 2000; for clusters of matched pairs see Durkalski et al., Statistics in Medicine 22, 2003. Utterances count
    as independent of each other.
    """
    differences = np.asarray(differences)
    if not np.issubdtype(differences.dtype, np.integer):
        raise TypeError(f"differences must be whole numbers, not {differences.dtype}")
    total = abs(int(differences.sum()))
    if total == 0:
        return 1.0
    # Probability of every sum of those sizes whose sign comes out positive: sizes of k go in steps of k.
    positive = np.ones(1)
    for size, num in enumerate(np.bincount(np.abs(differences))):
        if size and num:
            steps = np.zeros(size * num + 1)
            steps[::size] = binom.pmf(np.arange(num + 1), num, 0.5)
            positive = np.convolve(positive, steps)
    largest = len(positive) - 1
    # The signed sum is 2 x - largest, of the same parity as `largest`, and its distribution is symmetric.
    return min(1.0, 2 * float(positive[(largest + total) // 2 :].sum()))


def welch(base: Sequence[float], system: Sequence[float]) -> SeedTest | None:
    """Compare accuracies per seed (percent), as trainings with equal seeds have nothing else in common: not paired.

    None with fewer than two seeds on a side, or where no seed differs from another.
    Welch, "The generalization of Student's problem when several different population variances are involved",
    Biometrika 1947.
    """
    if min(len(base), len(system)) < 2 or (np.ptp(base) == 0 and np.ptp(system) == 0):
        return None
    with warnings.catch_warnings():
        # Seeds of one side that are all alike: the variance of the other is still known.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = ttest_ind(system, base, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return SeedTest(*map(float, (test.pvalue, low, high)))


def compare_seeds(base_name: str, base: Mapping[int, np.ndarray], system: Mapping[int, np.ndarray]) -> Change | None:
    """Compare what is right (U,) bool by seed, the same utterances in the same order; None without a common seed."""
    seeds = tuple(seed for seed in system if seed in base)
    if not seeds:
        return None
    there, here = (np.stack([right[seed] for seed in seeds]) for right in (base, system))
    differences = here.sum(0, dtype=int) - there.sum(0, dtype=int)
    return Change(
        base=base_name,
        seeds=seeds,
        points=100 * float(differences.sum()) / math.prod(here.shape),
        by_seed={seed: mcnemar(base[seed], system[seed]) for seed in seeds},
        p=randomisation_p(differences),
        over_seeds=welch(100 * there.mean(1), 100 * here.mean(1)),
    )
