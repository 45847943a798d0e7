"""Decoding settings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from espnet2_kd.asr.load import load_model
from espnet2_kd.asr.model_pack import DECODING, is_pack, open_pack
from espnet2_kd.asr.search import SEARCHES, Search, build_search
from espnet2_kd.data.documents import read_yaml
from espnet2_kd.data.problems import DataError
from espnet2_kd.kd.registry import ConfigError, nearest


@dataclass(frozen=True)
class DecodeConfig:
    """Settings of one decoding.

    Attributes:
        search: ``greedy`` or ``beam``.
        beam_size: hypotheses kept by beam search.
        max_symbols: labels per encoder frame at most, of a transducer; None: 3.
        tail: rest of a token's weight from which a CIF model fires at the end; None keeps what it was trained with.
        lm: experiment of a language model over the same labels, for a CIF model.
        lm_file: its checkpoint.
        lm_weight: its weight.
        chunk_ms, left_ms, right_ms: chunk of a streaming encoder and what it sees before and after it; None keeps what it
            was trained with. ``left_ms`` may be infinite: all of the past, ``.inf`` in YAML.
    """

    search: str = "greedy"
    beam_size: int = 4
    max_symbols: int | None = None
    tail: float | None = None
    lm: str | None = None
    lm_file: str = "valid.loss.ave.pth"
    lm_weight: float = 0.2
    chunk_ms: float | None = None
    left_ms: float | None = None
    right_ms: float | None = None

    @classmethod
    def read(cls, path: str | Path | None) -> "DecodeConfig":
        """Read a YAML file of these settings, all optional; raises ``ConfigError`` for what is unknown or unusable."""
        if path is None:
            return cls()
        try:
            settings = read_yaml(path) or {}
        except DataError as error:
            raise ConfigError(str(error.problems[0])) from error
        if not isinstance(settings, dict):
            raise ConfigError(f"{path}: expected lines of the form `search: greedy`")
        return cls.of(settings, path)

    @classmethod
    def for_model(cls, model: str | Path, path: str | Path | None = None) -> "DecodeConfig":
        """The settings of a YAML file, or without one those that an experiment or a pack was scored with, or else the defaults.

        What it was scored with comes without a language model: a pack has none, and an experiment may be called from anywhere.

        Raises PackError for a pack that cannot be opened, and ``ConfigError``.
        """
        if path is not None:
            return cls.read(path)
        folder = Path(model)
        if is_pack(folder):
            folder = next(above for above in open_pack(folder)[0].parents if (above / "meta.yaml").is_file())
        scored = folder / DECODING
        return replace(cls.read(scored), lm=None) if scored.is_file() else cls()

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str | Path) -> "DecodeConfig":
        """Check settings that ``where`` names in a ``ConfigError``."""
        names = [field.name for field in fields(cls)]
        for name in settings:
            if name not in names:
                raise ConfigError(f"{where}: {name}: unknown setting: {nearest(name, names)}")
        config = cls(**settings)
        config._check(where)
        return config

    @property
    def context(self) -> dict[str, float]:
        """The sizes of the context that are given."""
        sizes = {"chunk_ms": self.chunk_ms, "left_ms": self.left_ms, "right_ms": self.right_ms}
        return {name: value for name, value in sizes.items() if value is not None}

    def _check(self, path: str | Path) -> None:
        if self.search not in SEARCHES:
            raise ConfigError(f"{path}: search: {self.search!r}: choose greedy or beam")
        for name in ("beam_size", "max_symbols"):
            value = getattr(self, name)
            if (value is not None or name == "beam_size") and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{path}: {name}: {value!r}: give a whole number of at least 1")
        for name in ("tail", "lm_weight"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (int, float)) or not 0 <= value < math.inf):
                raise ConfigError(f"{path}: {name}: {value!r}: give a number of at least 0")
        for name, value in self.context.items():
            if not isinstance(value, (int, float)) or not value >= 0 or (math.isinf(value) and name != "left_ms"):
                raise ConfigError(f"{path}: {name}: {value!r}: give milliseconds, or leave it out")

    def apply(self, model: torch.nn.Module) -> Search:
        """Set the context of the model's encoder and its tail, and return the search; raises ``ConfigError``."""
        self.apply_context(model)
        try:
            if self.tail is not None:
                if not hasattr(model, "cif"):
                    raise ConfigError("tail: the model has no CIF layer: leave it out")
                model.cif.tail = self.tail
            lm = None if self.lm is None else self._language_model(model)
            return build_search(model, self.search, self.beam_size, self.max_symbols, lm, self.lm_weight)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def apply_context(self, model: torch.nn.Module) -> None:
        """Set the context of the model's encoder; raises ``ConfigError``."""
        if not self.context:
            return
        set_context_ms = getattr(model.encoder, "set_context_ms", None)
        if set_context_ms is None:
            raise ConfigError(f"{', '.join(self.context)}: {type(model.encoder).__name__} has no chunks: leave it out")
        try:
            set_context_ms(**self.context)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _language_model(self, model: torch.nn.Module) -> torch.nn.Module:
        device = next(model.parameters()).device
        lm, args = load_model(self.lm, self.lm_file, device, task="lm")
        if list(args.token_list) != list(model.token_list):
            raise ConfigError(
                f"lm: {self.lm} knows {len(args.token_list)} other labels than the model: train it on the same tokens"
            )
        return lm.lm
