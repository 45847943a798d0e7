"""What recognisers are compared by: words, or characters where a language is written without blanks between words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from espnet2_kd.report.sclite import read_output
from espnet2_kd.report.trn import split_line

# Thai, Lao, Tibetan and Burmese; Khmer; kana; Han, in its five parts of Unicode.
_UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Metric:
    """An error rate: its key in `score.json`, and what it counts."""

    key: str
    unit: str

    @property
    def label(self) -> str:
        """As tables name it: `WER`."""
        return self.key.upper()

    @property
    def units(self) -> str:
        return f"{self.unit}s"

    @property
    def folder(self) -> str:
        """Where its alignment is, below a scored set."""
        return f"score_{self.key}"


WORDS, CHARACTERS = Metric("wer", "word"), Metric("cer", "character")
METRICS = {metric.key: metric for metric in (WORDS, CHARACTERS)}


def choose_metric(scored: Path) -> Metric:
    """Choose from the references of a scored set: characters where more than half are of scripts without blanks.

    An utterance of such a language is one word to sclite, so its word error rate is the share of utterances that are
    not entirely right; papers on AISHELL, CSJ and the like compare characters. Raises DataError for a set without its
    `score_wer/ref.trn`.
    """
    lines = read_output(scored / WORDS.folder / "ref.trn").split("\n")
    text = "".join("".join(split_line(line)[0].split()) for line in lines)
    return CHARACTERS if 2 * len(_UNSPACED.findall(text)) > len(text) else WORDS
