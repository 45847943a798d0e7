"""Transcripts that a model wrote for speech without any, kept line by line as they are made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

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
    """JSON lines: how the labels are made, then one per utterance. A killed run loses at most the line it was writing.

    Use as a context manager.

    Args:
        path: the file; goes on with it where it exists.
        made_by: what decides the labels, such as the hash of the model. Labels made otherwise are not mixed.

    Raises:
        DataError: the file was made by something else, or is no such file.
    """

    def __init__(self, path: Path, made_by: Mapping[str, str]) -> None:
        self.path = path
        self.made_by = dict(made_by)
        self.labels: dict[str, Label] = {}
        self._stream: TextIO | None = None

    def __enter__(self) -> LabelFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        complete = self._read() if self.path.exists() else 0
        if complete:
            with self.path.open("r+b") as stream:
                stream.truncate(complete)
            self._stream = self.path.open("a", encoding="utf-8")
        else:
            self._stream = self.path.open("w", encoding="utf-8")
            self._write({"made_by": self.made_by})
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def add(self, labels: Mapping[str, Label]) -> None:
        """Keep more labels, on disk before this returns."""
        for utt, label in labels.items():
            self._write({"utt": utt, **vars(label)})
        self.labels.update(labels)

    def _write(self, content: dict) -> None:
        self._stream.write(json.dumps(content, ensure_ascii=False) + "\n")
        self._stream.flush()

    def _read(self) -> int:
        """Reads the labels there are; returns the bytes of the lines that are whole."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                if number == 1:
                    made_by = entry["made_by"]
                else:
                    utt = entry.pop("utt")
                    self.labels[utt] = Label(**entry)
            except (ValueError, KeyError, TypeError):
                raise one_problem(self.path, "is damaged", "move the file away", number) from None
            if number == 1 and made_by != self.made_by:
                changed = sorted(key for key in {*made_by, *self.made_by} if made_by.get(key) != self.made_by.get(key))
                what = f"holds labels that were made with another {', '.join(changed)}"
                raise one_problem(
                    self.path, what, "choose another --output_dir, or move the file away to label all again"
                )
        return whole
