"""What a teacher hears or reads while its features are cached: the sets of a recipe, in batches."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn.utils.rnn import pad_sequence

from espnet2_kd.asr.utterances import Utterances
from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.problems import Problem
from espnet2_kd.data.tokenizer import TokenSet
from espnet2_kd.kd.teachers.cached import PROBE_SAMPLES, probe_ids
from espnet2_kd.kd.teachers.units import text_key

Batches = Iterator[tuple[list[str], dict[str, Any]]]


class CacheInput(Protocol):
    """A set: its `name`, the `entries` of the cache that it wants, and what was wrong with it."""

    name: str
    entries: list[str]
    problems: list[Problem]

    def size(self, entry: str) -> int:
        """How much there is to hear or to read: samples or units."""

    def batches(self, entries: Collection[str]) -> Batches:
        """Entries and the batch that a teacher observes for them."""


class NoiseInput:
    """The two utterances that a model is built with, `PROBE_SAMPLES` of noise each."""

    name = "probe"

    def __init__(self) -> None:
        self.entries = probe_ids(2)
        self.problems: list[Problem] = []

    def size(self, entry: str) -> int:
        return PROBE_SAMPLES

    def batches(self, entries: Collection[str]) -> Batches:
        noise = torch.randn(2, PROBE_SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.1
        yield self.entries, _speech_batch(dict(zip(self.entries, noise, strict=True)))


class SpeechInput:
    """The audio of a data directory, by utterance."""

    def __init__(self, data_dir: Path, fs: int, batch_seconds: float) -> None:
        self.utterances, self.batch_seconds = Utterances(data_dir, fs), batch_seconds
        self.name, self.entries, self.problems = str(data_dir), self.utterances.ids, self.utterances.problems
        self.size = self.utterances.num_samples

    def batches(self, entries: Collection[str]) -> Batches:
        wanted = set(entries)
        for batch in self.utterances.batches(self.batch_seconds):
            read = {utt: self.utterances.read(utt) for utt in batch if utt in wanted}
            speech = {utt: torch.from_numpy(x) for utt, x in read.items() if x is not None}
            if speech:
                yield list(speech), _speech_batch(speech)


class TextInput:
    """Transcripts, by what is said: utterances of the same text, such as copies at another speed, are one entry.

    Args:
        name: for messages.
        labels: utterances and their label ids.
        batch_units: how many units there may be in a padded batch.
        named: whether the utterances are real ones.
    """

    def __init__(
        self, name: str, labels: Iterable[tuple[str, list[int]]], tokens: TokenSet, batch_units: int, named: bool = True
    ) -> None:
        self.name, self.batch_units, self.named = name, batch_units, named
        self.problems: list[Problem] = []
        self.texts: dict[str, tuple[str, array]] = {}
        for utt, ids in labels:
            # An array: a corpus of lists would be a gigabyte.
            self.texts.setdefault(text_key([tokens.tokens[label] for label in ids]), (utt, array("i", ids)))
        self.entries = list(self.texts)

    @classmethod
    def probe(cls, tokens: TokenSet) -> TextInput:
        """The text that a model is built with."""
        return cls("probe", [("probe", [len(tokens.tokens) - 2] * 2)], tokens, 2, named=False)

    @classmethod
    def read(cls, data_dir: Path, tokens: TokenSet, batch_units: int) -> TextInput:
        """The transcripts of a data directory; none where it has no `text`."""
        texts = DataDir.read(data_dir, need_text=False, allow_empty_text=True).tables.get("text", {})
        labels = ((utt, tokens.text2ids(" ".join(text.split()))) for utt, text in texts.items())
        return cls(str(data_dir), labels, tokens, batch_units)

    def size(self, entry: str) -> int:
        return len(self.texts[entry][1])

    def batches(self, entries: Collection[str]) -> Batches:
        batch: list[str] = []
        # Longest first: what does not fit into memory is known at once.
        for entry in sorted(entries, key=self.size, reverse=True):
            if batch and (len(batch) + 1) * (self.size(batch[0]) + 1) > self.batch_units:
                yield batch, self._batch(batch)
                batch = []
            batch.append(entry)
        if batch:
            yield batch, self._batch(batch)

    def _batch(self, entries: list[str]) -> dict[str, Any]:
        utts, labels = zip(*(self.texts[entry] for entry in entries), strict=True)
        rows = [torch.tensor(ids, dtype=torch.long) for ids in labels]
        text = pad_sequence(rows, batch_first=True, padding_value=-1)
        batch = {"text": text, "text_lengths": torch.tensor([len(row) for row in rows])}
        return {**batch, "utt_id": list(utts)} if self.named else batch


def _speech_batch(speech: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    lens = torch.tensor([len(x) for x in speech.values()])
    padded = pad_sequence(list(speech.values()), batch_first=True)
    return {"speech": padded, "speech_lengths": lens, "utt_id": list(speech)}
