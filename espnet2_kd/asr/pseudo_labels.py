"""Transcripts that a model wrote for speech without any, kept line by line as they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet2_kd.data.journal import Journal
from espnet2_kd.data.problems import one_problem


@dataclass(frozen=True)
class Label:
    """What a model heard in an utterance.

    Attributes:
        text: words.
        score: log probability of the best hypothesis.
        num_tokens: how many tokens it has.
    """

    text: str
    score: float
    num_tokens: int

    @property
    def confidence(self) -> float:
        """Geometric mean of the probability per token, 0 to 1; the end counts as a token."""
        return math.exp(min(0.0, self.score / (self.num_tokens + 1)))


class LabelFile:
    """How the labels are made, then a line for each.

    Args:
        path: the file; goes on with it where it exists.
        made_by: what decides the labels, such as the hash of the model. Labels made otherwise are not mixed.

    Raises:
        DataError: the file was made by something else, or is no such file.
    """

    def __init__(self, path: Path, made_by: Mapping[str, str]) -> None:
        self.journal = Journal(path)
        self.labels: dict[str, Label] = {}
        made_by = dict(made_by)
        head, *entries = self.journal.read() or [None]
        if head is None:
            self.journal.append({"made_by": made_by})
            return
        try:
            kept = head["made_by"]
            self.labels = {entry.pop("utt"): Label(**entry) for entry in entries}
        except (KeyError, TypeError, AttributeError):
            raise one_problem(path, "holds no labels, or damaged ones", "move the file away") from None
        if kept != made_by:
            changed = sorted(key for key in {*kept, *made_by} if kept.get(key) != made_by.get(key))
            what = f"holds labels that were made with another {', '.join(changed)}"
            raise one_problem(path, what, "choose another --output_dir, or move the file away to label all again")

    def add(self, labels: Mapping[str, Label]) -> None:
        """Keep more labels, on disk before this returns."""
        self.journal.append(*({"utt": utt, **vars(label)} for utt, label in labels.items()))
        self.labels.update(labels)
