"""Models of Hugging Face on this machine."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from espnet2_kd.data.problems import first_line
from espnet2_kd.kd.registry import ConfigError

WEIGHTS = (".json", ".safetensors", ".bin")
VOCABULARY = (".txt", ".model")


def model_files(model: str, suffixes: Collection[str] = WEIGHTS) -> list[Path]:
    """The files that decide what a model says, by its directory or its name on the hub.

    Raises:
        ConfigError: no such model.
    """
    from transformers.utils import cached_file

    try:
        folder = Path(cached_file(model, "config.json")).parent
    except OSError as error:
        raise ConfigError(f"no model {model}: {first_line(error)}") from error
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes)
