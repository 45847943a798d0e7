"""Decoding settings."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch
import yaml

from espnet2_kd.asr.transducer_search import BeamSearch, GreedySearch, build_search
from espnet2_kd.kd.registry import ConfigError, nearest


@dataclass(frozen=True)
class DecodeConfig:
    """Settings of one decoding.

    Attributes:
        search: ``greedy`` or ``beam``.
        beam_size: hypotheses kept by beam search.
        max_symbols: labels per encoder frame at most.
        chunk_ms: chunk of a streaming encoder; None keeps the one it was trained with.
    """

    search: str = "greedy"
    beam_size: int = 4
    max_symbols: int = 3
    chunk_ms: float | None = None

    @classmethod
    def read(cls, path: str | Path | None) -> "DecodeConfig":
        """Read a YAML file of these settings, all optional; raises ``ConfigError`` for what is unknown or unusable."""
        if path is None:
            return cls()
        try:
            settings = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: {error}") from error
        if not isinstance(settings, dict):
            raise ConfigError(f"{path}: expected lines of the form `search: greedy`")
        names = [field.name for field in fields(cls)]
        for name in settings:
            if name not in names:
                raise ConfigError(f"{path}: {name}: unknown setting: {nearest(name, names)}")
        config = cls(**settings)
        config._check(path)
        return config

    def _check(self, path: str | Path) -> None:
        if self.search not in ("greedy", "beam"):
            raise ConfigError(f"{path}: search: {self.search!r}: choose greedy or beam")
        for name in ("beam_size", "max_symbols"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{path}: {name}: {value!r}: give a whole number of at least 1")
        if self.chunk_ms is not None and not (isinstance(self.chunk_ms, (int, float)) and self.chunk_ms > 0):
            raise ConfigError(f"{path}: chunk_ms: {self.chunk_ms!r}: give milliseconds, or leave it out")

    def apply(self, model: torch.nn.Module) -> GreedySearch | BeamSearch:
        """Set the chunk size of the model's encoder and return the search; raises ``ConfigError``."""
        try:
            if self.chunk_ms is not None:
                set_chunk_ms = getattr(model.encoder, "set_chunk_ms", None)
                if set_chunk_ms is None:
                    raise ConfigError(f"chunk_ms: {type(model.encoder).__name__} has no chunks: leave it out")
                set_chunk_ms(float(self.chunk_ms))
            return build_search(model, self.search, self.beam_size, self.max_symbols)
        except ValueError as error:
            raise ConfigError(str(error)) from error
