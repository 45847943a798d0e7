"""Which word was taken for which, as sclite aligned them when it scored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from espnet2_kd.report.sclite import Counts, parse_utterances, read_output
from espnet2_kd.report.trn import unescape

Step = tuple[str | None, str | None]
_PAIR = re.compile(r"^id: \((.*)\)\nScores: .*\nAttributes: .*\nREF:  (.*)\nHYP:  (.*)\nEval: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Alignment:
    """One utterance: pairs (reference, hypothesis) of words, None on the side that lacks one."""

    utt: str
    speaker: str
    steps: tuple[Step, ...]
    counts: Counts

    @property
    def reference(self) -> list[str]:
        return [ref for ref, _ in self.steps if ref is not None]


def read_alignments(folder: Path) -> dict[str, Alignment]:
    """Read `result.txt` of a `score_wer` or `score_cer` folder, by utterance.

    Utterances whose pairs and counts, both sclite's, do not agree are not among them. Raises DataError for a file that
    cannot be read.
    """
    text = read_output(folder / "result.txt")
    counts = parse_utterances(text)
    found = {}
    for trn_id, ref, hyp, marks in _PAIR.findall(text):
        speaker, _, utt = trn_id.partition("-")
        steps = tuple(_steps(ref.encode(), hyp.encode(), marks.encode()))
        if trn_id in counts and _count(steps) == counts[trn_id]:
            found[plain(utt)] = Alignment(plain(utt), plain(speaker), steps, counts[trn_id])
    return found


def _steps(ref: bytes, hyp: bytes, marks: bytes) -> Iterator[Step]:
    """Cells stand under each other, as many bytes wide as the longer word, and a blank apart.

    A missing word is asterisks, or nothing where the other one begins as a tag does; so the third line decides.
    """
    place = 0
    while place < max(len(ref.rstrip()), len(hyp.rstrip())):
        words = [line[place:].split(b" ", 1)[0] for line in (ref, hyp)]
        mark = marks[place : place + 1]
        shown = [plain(word.decode("utf-8", errors="replace")) for word in words]
        if any(words):
            yield (None if mark == b"I" else shown[0]), (None if mark == b"D" else shown[1])
        place += max(1, *map(len, words)) + 1


def plain(escaped: str) -> str:
    """Undo the escapes of a word; one that was shortened stays so, and ends in `…`."""
    try:
        return unescape(escaped)
    except ValueError:
        return f"{escaped.partition('%~')[0]}…"


def _count(steps: Iterable[Step]) -> Counts:
    steps = list(steps)
    dele = sum(hyp is None for _, hyp in steps)
    ins = sum(ref is None for ref, _ in steps)
    corr = sum(ref == hyp for ref, hyp in steps)
    return Counts(corr, len(steps) - corr - dele - ins, dele, ins)
