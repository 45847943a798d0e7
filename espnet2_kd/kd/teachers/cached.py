"""A teacher that has spoken before: its features, kept on disk under the ids of their utterances."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet2_kd.data.download import file_sha256
from espnet2_kd.data.journal import Journal
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.taps import ATTENTION, in_encoder
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.teacher import Teacher
from espnet2_kd.kd.term import Term

INDEX = "index.jsonl"
PROBE = "<probe>"  # the batch that a model is built with; no utterance has such an id
REDO = "run the caching again: it makes only what is missing"


class FeatureCache:
    """Features of a teacher in shards of safetensors, one folder per teacher and set of taps.

    `index.jsonl` says how they were made, and of each shard, a line for each, its utterances, its size and its SHA-256. A shard
    is written under a temporary name and enters the index when it is whole, so a killed run loses one shard at most.

    Args:
        root: where the folder is, or will be; its name is the hash of `made_by`.
        made_by: all that decides the features but their precision on disk: see the function of this name.
    """

    def __init__(self, root: str | Path, made_by: Mapping[str, Any]) -> None:
        self.made_by = dict(made_by)
        key = hashlib.sha256(json.dumps(self.made_by, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(root) / key
        self.shards: dict[str, dict[str, Any]] = {}
        self.attention: dict[str, str] = dict(ATTENTION)
        self.index = Journal(self.folder / INDEX)
        if entries := self.index.read():
            self._load(*entries)
        self.where = {utt: name for name, shard in self.shards.items() for utt in shard["utts"]}
        self._open: dict[str, Any] = {}

    def _load(self, head: dict[str, Any], *shards: dict[str, Any]) -> None:
        try:
            made_by, self.attention = head["made_by"], head["attention"]
            self.shards = {shard.pop("name"): shard for shard in shards}
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.index.path}: is damaged: remove {self.folder} and cache again") from error
        if made_by != self.made_by:
            raise ConfigError(f"{self.folder}: made by something else: remove it and cache again")

    def num_samples(self, utt: str) -> int:
        """Length of the audio that was heard."""
        return self.shards[self.where[utt]]["utts"][utt]

    def damaged(self, thorough: bool = False) -> list[str]:
        """Shards that are missing or not as long as they were; `thorough` reads them and compares their SHA-256."""
        found = []
        for name, shard in self.shards.items():
            path = self.folder / name
            whole = path.is_file() and path.stat().st_size == shard["bytes"]
            if not whole or (thorough and file_sha256(path) != shard["sha256"]):
                found.append(name)
        return found

    def drop(self, names: Iterable[str]) -> None:
        """Forget shards, so that their utterances are made again."""
        for name in names:
            for utt in self.shards.pop(name)["utts"]:
                self.where.pop(utt)
            (self.folder / name).unlink(missing_ok=True)
        self.index.rewrite(self._head(), *({"name": name, **shard} for name, shard in self.shards.items()))

    def add(self, features: Mapping[str, Mapping[str, Tensor]], num_samples: Mapping[str, int]) -> None:
        """Keep one more shard: utterance -> path -> `(T, D)`."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        name = next(name for n in range(10**6) if (name := f"shard.{n:06d}.safetensors") not in self.shards)
        temporary = self.folder / f".{name}.{os.getpid()}"
        save_file(
            {f"{path}/{utt}": x.contiguous() for utt, taps in features.items() for path, x in taps.items()}, temporary
        )
        self.shards[name] = {
            "utts": {utt: int(num_samples[utt]) for utt in features},
            "bytes": temporary.stat().st_size,
            "sha256": file_sha256(temporary),
        }
        self.where.update(dict.fromkeys(features, name))
        os.replace(temporary, self.folder / name)
        entry = {"name": name, **self.shards[name]}
        if len(self.shards) > 1:
            self.index.append(entry)
        else:
            self.index.rewrite(self._head(), entry)

    def _head(self) -> dict[str, Any]:
        return {"made_by": self.made_by, "attention": dict(self.attention)}

    def read(self, utt: str, path: str) -> Tensor:
        """`(T, D)` in float32."""
        from safetensors import safe_open

        name = self.where[utt]
        if name not in self._open:
            self._open[name] = safe_open(self.folder / name, framework="pt")
        return self._open[name].get_tensor(f"{path}/{utt}").float()


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

    def require(self, utts: Collection[str], where: str) -> None:
        """Raise ConfigError unless the features of all of them are there."""
        missing = sorted(set(utts) - self.cache.where.keys())
        if missing:
            some = " ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise ConfigError(
                f"{self.cache.folder}: {len(missing)} utterances of {where} are not in the cache ({some}): {REDO}"
            )

    def watch(self, paths: set[str]) -> None:
        self.paths = set(paths)

    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        num = len(batch["speech"])
        utts = batch.get("utt_id") or probe_ids(num)
        for utt, samples in zip(utts, batch["speech_lengths"].tolist(), strict=True):
            if utt not in self.cache.where:
                raise ConfigError(f"{self.cache.folder}: utterance {utt} is not in the cache: {REDO}")
            if samples != self.cache.num_samples(utt):
                raise ConfigError(
                    f"{self.cache.folder}: the teacher heard {self.cache.num_samples(utt)} samples of {utt}, which now has {samples}: "
                    "remove the folder and cache again"
                )
        device, observed = batch["speech"].device, {}
        for path in self.paths:
            rows = [self.cache.read(utt, path) for utt in utts]
            lens = torch.tensor([len(row) for row in rows], device=device)
            observed[path] = Seq(pad_sequence(rows, batch_first=True).to(device), lens)
        return observed


def probe_ids(num: int) -> list[str]:
    """Names under which the features of the batch that a model is built with are kept."""
    return [f"{PROBE}{b}" for b in range(num)]


def why_not_cached(kind: str, conf: Mapping[str, Any], terms: Iterable[Term]) -> str | None:
    """What keeps a teacher's features for these terms from being cached; None where nothing does."""
    if not hasattr(TEACHERS.classes.get(kind), "files"):
        return f"a teacher of the kind {kind!r} cannot be cached"
    if conf.get("input", "clean") != "clean":
        return "what it hears changes with SpecAugment"
    needy = [term.name for term in terms if kind == "espnet" and not in_encoder(term.teacher)]
    return f"the terms {', '.join(needy)} need labels" if needy else None


def made_by(kind: str, conf: Mapping[str, Any], terms: Iterable[Term]) -> dict[str, Any]:
    """All that decides the features of a teacher: its kind, the content of its files, and what is read of it."""
    return {
        "teacher": kind,
        "task": conf.get("task", "asr"),
        "files": {path.name: file_sha256(path) for path in TEACHERS.classes[kind].files(**conf)},
        "taps": sorted({f"{term.teacher} {' '.join(sorted(term.reads))}" for term in terms}),
    }
