"""How often intents and slots of one set were recognised: counts, their intervals, and what was taken for what."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from statistics import NormalDist
from typing import Any

from espnet2_kd.data.table import replacing
from espnet2_kd.report.intent_pairs import SlotPair, read_slot_pairs
from espnet2_kd.report.intent_plots import plot_confusions
from espnet2_kd.report.markdown import columns

# Values that say "nothing was said of this": the slot counts as absent.
ABSENT = frozenset({"none", "_none_"})
NUM_CONFUSIONS = 20
Confusions = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Proportion:
    """How many of `total` (at least one) are right."""

    correct: int
    total: int

    @property
    def rate(self) -> float:
        return self.correct / self.total

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Bounds of Wilson's score interval, which holds near 0 and 1 too; utterances count as independent.

        Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
        """
        z = NormalDist().inv_cdf(0.5 + level / 2)
        centre = (self.correct + z * z / 2) / (self.total + z * z)
        variance = self.rate * (1 - self.rate) / self.total + z * z / (4 * self.total**2)
        half = z * math.sqrt(variance) / (1 + z * z / self.total)
        # Rounding must not push a bound past what was seen.
        return max(0.0, min(self.rate, centre - half)), min(1.0, max(self.rate, centre + half))

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval()
        return {"correct": self.correct, "total": self.total, "rate": self.rate, "low": low, "high": high}


@dataclass(frozen=True)
class SlotF1:
    """Slots found and found right, over all utterances and slots (micro average).

    num_ref: slots that the references have, those whose value is not one of `ABSENT`.
    num_hyp: slots that the hypotheses have.
    correct: slots that both have, with the same value.
    A wrong value therefore lowers precision and recall, a missed slot recall alone, an invented one precision alone,
    and agreement that a slot is absent counts for nothing; with one slot that is never absent all three are the
    accuracy. What was never there to be found has no rate: None.
    """

    num_ref: int
    num_hyp: int
    correct: int

    @property
    def precision(self) -> float | None:
        return self.correct / self.num_hyp if self.num_hyp else None

    @property
    def recall(self) -> float | None:
        return self.correct / self.num_ref if self.num_ref else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both: 2 correct / (num_ref + num_hyp)."""
        return 2 * self.correct / (self.num_ref + self.num_hyp) if self.num_ref + self.num_hyp else None

    def to_dict(self) -> dict[str, Any]:
        counts = {"num_ref": self.num_ref, "num_hyp": self.num_hyp, "correct": self.correct}
        return {**counts, "precision": self.precision, "recall": self.recall, "f1": self.f1}


def exact_match(pairs: Sequence[SlotPair]) -> Proportion:
    """Count utterances with every slot right."""
    return Proportion(sum(pair.right for pair in pairs), len(pairs))


def slot_accuracy(pairs: Sequence[SlotPair], slot: str) -> Proportion:
    """Count utterances with this slot right; absent where it should be is right."""
    return Proportion(sum(pair.ref[slot] == pair.hyp[slot] for pair in pairs), len(pairs))


def slot_f1(pairs: Sequence[SlotPair]) -> SlotF1:
    """Count slots as `SlotF1` says."""
    values = [(pair.ref[slot], pair.hyp[slot]) for pair in pairs for slot in pair.ref]
    return SlotF1(
        num_ref=sum(ref not in ABSENT for ref, _ in values),
        num_hyp=sum(hyp not in ABSENT for _, hyp in values),
        correct=sum(ref == hyp and ref not in ABSENT for ref, hyp in values),
    )


def confusions(pairs: Sequence[SlotPair], slot: str) -> Confusions:
    """Count the utterances of every (reference, hypothesis) of a slot, the right ones as well."""
    return Counter((pair.ref[slot], pair.hyp[slot]) for pair in pairs)


def score_intents(ref: str | PathLike, hyp: str | PathLike, output_dir: str | PathLike) -> dict[str, Any]:
    """Write `result.txt`, `confusion_<slot>.png` for every slot and, last, `result.json`; return what is in the last.

    Rates in it are fractions. `right` is a string with a 1 or 0 for each of `utts`, which are sorted: whether all slots
    are right; `slot_right` the same by slot. The hashes tell a reader whether it still belongs to the two files.
    Raises DataError, leaving no `result.json`, when the files do not belong together.
    """
    output = Path(output_dir)
    summary = output / "result.json"
    summary.unlink(missing_ok=True)
    pairs = read_slot_pairs(ref, hyp)
    slots = list(pairs[0].ref)
    counts = {slot: confusions(pairs, slot) for slot in slots}
    result = {
        "num_utts": len(pairs),
        "slots": slots,
        "exact_match": exact_match(pairs).to_dict(),
        "slot_accuracy": {slot: slot_accuracy(pairs, slot).to_dict() for slot in slots},
        "slot_f1": slot_f1(pairs).to_dict(),
        "confusions": _most_frequent(counts),
        "reference": {"path": str(ref), "sha256": file_hash(ref)},
        "hypothesis": {"path": str(hyp), "sha256": file_hash(hyp)},
        "utts": [pair.utt for pair in pairs],
        "right": _bits(pairs, lambda pair: pair.right),
        "slot_right": {slot: _bits(pairs, lambda pair, slot=slot: pair.ref[slot] == pair.hyp[slot]) for slot in slots},
    }
    with replacing(output / "result.txt") as stream:
        stream.write(format_result(result))
    for slot in slots:
        plot_confusions(output / f"confusion_{slot}.png", slot, counts[slot])
    with replacing(summary) as stream:
        json.dump(result, stream, indent=2, ensure_ascii=False, allow_nan=False)
        stream.write("\n")
    return result


def file_hash(path: str | PathLike) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def format_result(result: dict[str, Any]) -> str:
    """Lay out a result for people: rates with their intervals, slot F1, the most frequent confusions."""
    rates = {"exact match": result["exact_match"], **result["slot_accuracy"]}
    # An intent by itself is right exactly when the utterance is.
    if len(result["slots"]) == 1:
        del rates[result["slots"][0]]
    rows = [
        (name, str(rate["correct"]), str(rate["total"]), percent(rate["rate"]), f"{percent(low)} .. {percent(high)}")
        for name, rate in rates.items()
        for low, high in [(rate["low"], rate["high"])]
    ]
    f1 = result["slot_f1"]
    parts = [
        f"{result['num_utts']} utterances of {result['reference']['path']}; slots: {', '.join(result['slots'])}",
        columns(("", "right", "of", "%", "95 % interval"), rows),
        f"slot F1 {percent(f1['f1'])} %, precision {percent(f1['precision'])} %, recall {percent(f1['recall'])} %: "
        f"{f1['correct']} right of {f1['num_ref']} slots present and {f1['num_hyp']} found",
    ]
    if result["confusions"]:
        header = ("slot", "is", "taken for", "utterances", "of")
        cells = [(*(row[key] for key in ("slot", "ref", "hyp")), *_counts(row)) for row in result["confusions"]]
        parts.append(f"most frequent confusions\n{columns(header, cells, left=3)}")
    return "\n\n".join(parts) + "\n"


def format_summary(result: dict[str, Any], output_dir: str | PathLike) -> str:
    """Write one line for the console of a recipe."""
    match, f1 = result["exact_match"], result["slot_f1"]
    interval = f"{percent(match['low'])} .. {percent(match['high'])}"
    rate = f"exact match {percent(match['rate'])} % ({interval}) of {match['total']}"
    return f"{rate}, slot F1 {percent(f1['f1'])} %: {Path(output_dir) / 'result.txt'}"


def percent(rate: float | None) -> str:
    """Write a fraction in percent; `-` where there is none."""
    return "-" if rate is None else f"{100 * rate:.2f}"


def _most_frequent(counts: dict[str, Confusions]) -> list[dict[str, Any]]:
    """Wrong values by falling number of utterances; `total` is how often the right one occurs."""
    wrong = [
        {"slot": slot, "ref": ref, "hyp": hyp, "count": count, "total": _total(counts[slot], ref)}
        for slot in counts
        for (ref, hyp), count in counts[slot].items()
        if ref != hyp
    ]
    return sorted(wrong, key=lambda row: (-row["count"], row["slot"], row["ref"], row["hyp"]))[:NUM_CONFUSIONS]


def _total(counts: Confusions, value: str) -> int:
    return sum(count for (ref, _), count in counts.items() if ref == value)


def _counts(row: dict[str, Any]) -> tuple[str, str]:
    return str(row["count"]), str(row["total"])


def _bits(pairs: Sequence[SlotPair], right: Callable[[SlotPair], bool]) -> str:
    return "".join("1" if right(pair) else "0" for pair in pairs)
