"""What a teacher has said, kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from espnet2_kd.data.documents import check_shape
from espnet2_kd.data.download import file_sha256
from espnet2_kd.data.journal import Journal
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.scratch import scratch_folder
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.taps import ATTENTION

INDEX = "index.jsonl"
_HEAD = {"made_by": dict, "attention": dict}
_SHARD = {"name": str, "utts": dict, "bytes": int, "sha256": str}


class FeatureCache:
    """Features of a teacher in shards of safetensors, one folder per teacher and set of taps.

    An entry is an utterance, or a text under its hash. `index.jsonl` says how they were made, and of each shard, a line for
    each, its entries (`utts`), its size and its SHA-256. A shard is written under a temporary name and enters the index when
    it is whole, so a killed run loses one shard at most.

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
        if lines := self.index.read():
            self._load(*lines)
        self.where = {entry: name for name, shard in self.shards.items() for entry in shard["utts"]}
        self._open: dict[str, Any] = {}

    def _load(self, head: dict[str, Any], *shards: dict[str, Any]) -> None:
        try:
            check_shape(head, _HEAD, self.index.path)
            for shard in shards:
                check_shape(shard, _SHARD, self.index.path)
        except DataError as error:
            raise ConfigError(f"{error.problems[0]}; or remove {self.folder} and cache again") from error
        made_by, self.attention = head["made_by"], head["attention"]
        self.shards = {shard.pop("name"): shard for shard in shards}
        if made_by != self.made_by:
            raise ConfigError(f"{self.folder}: made by something else: remove it and cache again")

    def size(self, entry: str) -> int:
        """How much of an entry was heard or read: samples of audio or units of text."""
        return self.shards[self.where[entry]]["utts"][entry]

    def damaged(self, thorough: bool = False) -> list[str]:
        """Shards that are missing or not as long as they were; `thorough` reads them and compares their SHA-256."""
        found = []
        for name, shard in self.shards.items():
            path = self.folder / name
            # Path.is_file raises for a name that is too long for any file.
            whole = os.path.isfile(path) and path.stat().st_size == shard["bytes"]
            if not whole or (thorough and file_sha256(path) != shard["sha256"]):
                found.append(name)
        return found

    def drop(self, names: Iterable[str]) -> None:
        """Forget shards, so that their entries are made again."""
        for name in names:
            for entry in self.shards.pop(name)["utts"]:
                self.where.pop(entry)
            (self.folder / name).unlink(missing_ok=True)
        self.index.rewrite(self._head(), *({"name": name, **shard} for name, shard in self.shards.items()))

    def add(self, features: Mapping[str, Mapping[str, Tensor]], sizes: Mapping[str, int]) -> None:
        """Keep one more shard: entry -> path -> `(T, D)`, and how much of each was heard or read."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        name = next(name for n in range(10**6) if (name := f"shard.{n:06d}.safetensors") not in self.shards)
        with scratch_folder(self.folder / name) as folder:
            temporary = folder / name
            save_file(
                {f"{path}/{entry}": x.contiguous() for entry, taps in features.items() for path, x in taps.items()},
                temporary,
            )
            self.shards[name] = {
                "utts": {entry: int(sizes[entry]) for entry in features},
                "bytes": temporary.stat().st_size,
                "sha256": file_sha256(temporary),
            }
            self.where.update(dict.fromkeys(features, name))
            os.replace(temporary, self.folder / name)
        line = {"name": name, **self.shards[name]}
        if len(self.shards) > 1:
            self.index.append(line)
        else:
            self.index.rewrite(self._head(), line)

    def _head(self) -> dict[str, Any]:
        return {"made_by": self.made_by, "attention": dict(self.attention)}

    def read(self, entry: str, path: str) -> Tensor:
        """`(T, D)` in float32."""
        from safetensors import SafetensorError, safe_open

        name = self.where[entry]
        try:
            if name not in self._open:
                self._open[name] = safe_open(self.folder / name, framework="pt")
            return self._open[name].get_tensor(f"{path}/{entry}").float()
        except (OSError, SafetensorError) as error:
            remedy = "remove the file and cache again: python -m espnet2_kd.bin.cache_teacher"
            raise ConfigError(f"{self.folder / name}: {entry}: no {path} can be read ({error}): {remedy}") from error
