"""A teacher that has spoken before: its features, kept on disk under the ids of their utterances, or under their texts."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from espnet2_kd.data.download import file_sha256
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.taps import in_encoder
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.feature_cache import FeatureCache
from espnet2_kd.kd.teachers.teacher import Teacher
from espnet2_kd.kd.teachers.units import Units, text_key
from espnet2_kd.kd.term import Term

PROBE = "<probe>"  # the batch that a model is built with; no utterance has such an id
PROBE_SAMPLES = 16000  # of each of its utterances, at any rate
REDO = "run the caching again: it makes only what is missing"


class CachedTeacher(Teacher):
    """Stands in for a teacher whose features have been cached; the teacher itself is not loaded.

    Raises:
        ConfigError: nothing was cached for these taps, a shard is missing or cut off, or the audio of an utterance is not as
            long as it was.
    """

    def __init__(self, root: str | Path, made_by: Mapping[str, Any]) -> None:
        self.cache = FeatureCache(root, made_by)
        self.attention = self.cache.attention
        self.paths: set[str] = set()
        if not self.cache.shards:
            raise ConfigError(f"no features of this teacher and these taps are cached in {root}: cache them first")
        if damaged := self.cache.damaged():
            raise ConfigError(f"{self.cache.folder}: {', '.join(damaged)} missing or cut off: {REDO}")

    def require(self, entries: Mapping[str, str], where: str) -> None:
        """Raise ConfigError unless the features of all are there: utterance -> what they are kept under."""
        missing = sorted(utt for utt, entry in entries.items() if entry not in self.cache.where)
        if missing:
            some = " ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise ConfigError(
                f"{self.cache.folder}: {len(missing)} utterances of {where} are not in the cache ({some}): {REDO}"
            )

    def watch(self, paths: set[str]) -> None:
        self.paths = set(paths)

    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        entries = batch.get("utt_id") or probe_ids(len(batch["speech"]))
        for utt, samples in zip(entries, batch["speech_lengths"].tolist(), strict=True):
            if utt not in self.cache.where:
                raise ConfigError(f"{self.cache.folder}: utterance {utt} is not in the cache: {REDO}")
            if samples != self.cache.size(utt):
                raise ConfigError(
                    f"{self.cache.folder}: the teacher heard {self.cache.size(utt)} samples of {utt}, which now has {samples}: "
                    "remove the folder and cache again"
                )
        return self._read(entries, batch["speech"].device)

    def _read(self, entries: Sequence[str], device: torch.device) -> dict[str, Seq]:
        observed = {}
        for path in self.paths:
            rows = [self.cache.read(entry, path) for entry in entries]
            lens = torch.tensor([len(row) for row in rows], device=device)
            observed[path] = Seq(pad_sequence(rows, batch_first=True).to(device), lens)
        return observed


class CachedTextTeacher(CachedTeacher):
    """Stands in for a teacher that reads: features are kept under the text, so copies of an utterance share them.

    Args:
        token_list: the student's.

    Raises:
        ConfigError: as `CachedTeacher`; or a text is not in the cache, which is so too when it has changed.
    """

    def __init__(self, root: str | Path, made_by: Mapping[str, Any], token_list: Sequence[str]) -> None:
        super().__init__(root, made_by)
        self.units = Units(token_list)
        self.eos: bool = made_by["settings"]["eos"]

    def key(self, labels: Iterable[int]) -> str:
        """What the features of an utterance with these label ids are kept under."""
        return text_key([self.units.tokens[label] for label in labels])

    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        if "text" not in batch:
            return {}
        texts = self.units.strings(batch)
        entries = [text_key(units) for units in texts]
        for b, entry in enumerate(entries):
            if entry not in self.cache.where:
                utt = batch["utt_id"][b] if batch.get("utt_id") else "that the model is built with"
                raise ConfigError(
                    f"{self.cache.folder}: the text of utterance {utt} is not in the cache, it is new or has changed "
                    f"({self.units.write(texts[b])[0]!r}): {REDO}"
                )
        labels, _ = self.units.labels(batch, self.eos)
        return {path: replace(seq, labels=labels) for path, seq in self._read(entries, labels.device).items()}


def cached_teacher(
    root: str | Path, kind: str, conf: Mapping[str, Any], terms: Iterable[Term], token_list: Sequence[str]
) -> CachedTeacher:
    """What stands in for a teacher of this kind; `token_list` is the student's."""
    made = made_by(kind, conf, terms, token_list)
    if TEACHERS.classes[kind].reads == "text":
        return CachedTextTeacher(root, made, token_list)
    return CachedTeacher(root, made)


def probe_ids(num: int) -> list[str]:
    """Names under which the features of the batch that a model is built with are kept."""
    return [f"{PROBE}{b}" for b in range(num)]


def why_not_cached(kind: str, conf: Mapping[str, Any], terms: Iterable[Term]) -> str | None:
    """What keeps a teacher's features for these terms from being cached; None where nothing does."""
    if not hasattr(TEACHERS.classes.get(kind), "files"):
        return f"a teacher of the kind {kind!r} cannot be cached" + (
            ", it remembers what it has read" if kind == "hf_sentence" else ""
        )
    if conf.get("input", "clean") != "clean":
        return "what it hears changes with SpecAugment"
    needy = [term.name for term in terms if kind == "espnet" and not in_encoder(term.teacher)]
    return f"the terms {', '.join(needy)} need labels" if needy else None


def made_by(
    kind: str, conf: Mapping[str, Any], terms: Iterable[Term], token_list: Sequence[str] = ()
) -> dict[str, Any]:
    """All that decides the features of a teacher: its kind, the content of its files, and what is read of it.

    Of one that reads text also its settings and the student's vocabulary, in whose units its features come.
    """
    cls, keywords = TEACHERS.check({kind: conf}, "teacher")
    made = {
        "teacher": kind,
        "task": conf.get("task", "asr"),
        "files": {path.name: file_sha256(path) for path in cls.files(**keywords)},
        "taps": sorted({f"{term.teacher} {' '.join(sorted(term.reads))}" for term in terms}),
    }
    if cls.reads == "text":
        settings = inspect.signature(cls).bind(**keywords)
        settings.apply_defaults()
        made["settings"] = {key: value for key, value in settings.arguments.items() if key != "model"}
        made["tokens"] = hashlib.sha256("\n".join(token_list).encode()).hexdigest()
    return made
