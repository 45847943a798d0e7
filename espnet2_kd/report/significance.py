"""Is one system better than another, or were these utterances and seeds kind to it?

Two answers: the matched-pair sentence-segment word error test (MAPSSWE) of SCTK (Gillick and Cox, "Some statistical
issues in the comparison of speech recognition algorithms", ICASSP 1989), and bootstrap intervals (Bisani and Ney,
"Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet2_kd.data.problems import one_problem
from espnet2_kd.report.sclite import find_tool, parse_utterances, read_output, run_tool
from espnet2_kd.report.trn import speaker_of, split_line

MIN_SPEAKERS = 20
_RESULT = re.compile(
    r"\(# segs: (\d+)\).*\(mean: *(\S+)\) \(std dev: *(\S+)\) \(Z Stat: *(\S+)\) \(Stat Diff: (Yes|No)\)"
)
_TOTALS = re.compile(r"^Totals +\d+ +(\d+) +(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Mapsswe:
    """Outcome of the test: errors of both systems, segments, and per segment the difference (first minus second)."""

    errors: tuple[int, int]
    segments: int
    mean: float
    std: float
    z: float
    significant: bool

    @property
    def p(self) -> float:
        """Two-sided probability of so large a |z| if neither system is better."""
        return math.erfc(abs(self.z) / math.sqrt(2))


def mapsswe(first: Mapping[int, Path], second: Mapping[int, Path]) -> Mapsswe:
    """Compare two systems, given their `score_wer` or `score_cer` folders by seed.

    One seed: by `sc_stats -t mapsswe`. Several: a segment is an utterance with its errors of all seeds, since seeds are tested
    on the same utterances, and segments of several seeds, counted as independent, would make a chance look like a certainty.
    Raises DataError when references of the systems differ, and ValueError when seeds do.
    """
    if set(first) != set(second) or not first:
        raise ValueError(f"seeds must be the same on both sides: {sorted(first)} and {sorted(second)}")
    for seed, folder in first.items():
        if read_output(folder / "ref.trn") != read_output(second[seed] / "ref.trn"):
            what = f"references differ from those of {second[seed]}"
            raise one_problem(folder, what, "score both systems on the same set")
    if len(first) > 1:
        here, there = (Errors.read([folders[seed] for seed in sorted(first)]).errors for folders in (first, second))
        return _matched_pairs(here.sum(0), there.sum(0))
    return _by_segments(*first.values(), *second.values())


def _matched_pairs(first: np.ndarray, second: np.ndarray) -> Mapsswe:
    """Of errors per segment `(N,)`."""
    differences = first - second
    mean, std = float(differences.mean()), float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    z = mean / (std / math.sqrt(len(differences))) if std else math.copysign(math.inf, mean) if mean else 0.0
    significant = math.erfc(abs(z) / math.sqrt(2)) < 0.05
    return Mapsswe((int(first.sum()), int(second.sum())), len(differences), mean, std, z, significant)


def _by_segments(first: Path, second: Path) -> Mapsswe:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy_trn(first / "ref.trn", folder / "ref.trn")
        sgml = ""
        for title, system in (("A", first), ("B", second)):
            _copy_trn(system / "hyp.trn", folder / f"{title}.trn")
            command = [str(find_tool()), "-e", "utf-8", "-s", "-i", "rm", "-r", "ref.trn", "trn", "-h", f"{title}.trn"]
            run_tool([*command, "trn", title, "-o", "sgml", "-f", "0"], folder)
            sgml += (folder / f"{title}.trn.sgml").read_text(encoding="utf-8")
        if len({(folder / name).read_bytes() for name in ("ref.trn", "A.trn", "B.trn")}) == 1:
            # Without a single error there is no segment to compare, and sc_stats crashes.
            return Mapsswe((0, 0), 0, 0.0, 0.0, 0.0, significant=False)
        return _parse(run_tool([str(find_tool("sc_stats")), "-p", "-t", "mapsswe", "-v", "-n", "-"], folder, sgml))


def _copy_trn(path: Path, output: Path) -> None:
    text = read_output(path)
    for line in text.split("\n")[:-1]:
        if "-" not in split_line(line)[1]:
            raise one_problem(path, f"a line without speaker and utterance: {line!r:.80}", "score again")
    output.write_text(text, encoding="utf-8", newline="\n")


def _parse(report: str) -> Mapsswe:
    result, totals = _RESULT.search(report), _TOTALS.search(report)
    if result is None or totals is None:
        raise one_problem("sc_stats", f"no MAPSSWE test in its output: {report[-200:]!r}", "score both systems again")
    segments, mean, std, z, differs = result.groups()
    errors = int(totals[1]), int(totals[2])
    return Mapsswe(errors, int(segments), float(mean), float(std), float(z), differs == "Yes")


@dataclass(frozen=True)
class Errors:
    """Errors `(S, U)` of S seeds and U utterances, reference words or characters `(U,)`, speaker index `(U,)`."""

    errors: np.ndarray
    units: np.ndarray
    speakers: np.ndarray

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Errors:
        """Read `score_wer` or `score_cer` folders, one per seed; raises DataError when they do not hold the same utterances."""
        results = [parse_utterances(read_output(folder / "result.txt")) for folder in folders]
        ids = sorted(results[0])
        units = np.array([results[0][utt].words for utt in ids])
        if not units.sum():
            raise one_problem(
                folders[0] / "result.txt", "counts of no words", "score again: python -m espnet2_kd.bin.score"
            )
        for folder, result in zip(folders, results, strict=True):
            if sorted(result) != ids or any(result[utt].words != count for utt, count in zip(ids, units, strict=True)):
                raise one_problem(folder, f"not the utterances of {folders[0]}", "score both on the same set")
        _, speakers = np.unique([speaker_of(utt) for utt in ids], return_inverse=True)
        return cls(np.array([[result[utt].errors for utt in ids] for result in results]), units, speakers)

    @property
    def rate(self) -> float:
        """Error rate over all seeds, as a fraction."""
        return float(self.errors.sum() / (len(self.errors) * self.units.sum()))

    def cluster_kind(self) -> str:
        """What is drawn: `speaker` where there are enough for percentiles to mean anything, else `utterance`."""
        return "speaker" if len(np.unique(self.speakers)) >= MIN_SPEAKERS else "utterance"


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_rate(system: Errors, cluster: str, samples: int = 2000, seed: int = 1) -> Interval:
    """Interval of the error rate, as a fraction."""
    drawn, units = _draw([system], cluster, samples, seed)
    return _interval(system.rate, drawn[0] / units)


def bootstrap_change(base: Errors, system: Errors, cluster: str, samples: int = 2000, seed: int = 1) -> Interval:
    """Interval of the relative change of the error rate from `base` to `system`: -0.1 is a tenth fewer errors.

    Both systems see the same draw of clusters. Seeds are drawn too, for each system by itself, as trainings with
    equal seeds have nothing else in common; so the interval holds for the method and not for these trainings alone.
    An error-free `base` gives NaN.
    """
    drawn, _ = _draw([base, system], cluster, samples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = drawn[1] / drawn[0] - 1
    return _interval(system.rate / base.rate - 1 if base.rate else math.nan, changes)


def _draw(systems: Sequence[Errors], cluster: str, samples: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw seeds and clusters with replacement; give mean errors per system and words or characters, each `(samples,)`."""
    if cluster not in ("speaker", "utterance"):
        raise ValueError(f"cluster must be speaker or utterance, not {cluster!r}")
    groups = systems[0].speakers if cluster == "speaker" else np.arange(len(systems[0].units))
    num_groups = int(groups.max()) + 1
    units = np.bincount(groups, systems[0].units, num_groups)
    errors = [np.stack([np.bincount(groups, row, num_groups) for row in system.errors]) for system in systems]
    random = np.random.default_rng(seed)
    drawn_errors: list[list[np.ndarray]] = [[] for _ in systems]
    drawn_units = []
    # In parts, so that a large test set does not need samples x utterances numbers at once.
    for start in range(0, samples, 200):
        size = min(200, samples - start)
        times = random.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size)
        drawn_units.append(times @ units)
        for table, drawn in zip(errors, drawn_errors, strict=True):
            seeds = random.multinomial(len(table), np.full(len(table), 1 / len(table)), size)
            drawn.append(((times @ table.T) * seeds).sum(1) / len(table))
    return [np.concatenate(drawn) for drawn in drawn_errors], np.concatenate(drawn_units)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high))
