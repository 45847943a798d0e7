"""Code that comes with a model: never run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from espnet2_kd.kd.registry import ConfigError

KEY = "trust_remote_code"
# Parts of ESPnet2 hand such a mapping, or the JSON file that is named, to `from_pretrained`.
FORWARDED = "overriding_architecture_config"


def require_no_remote_code(conf: Any, where: str) -> None:
    """Raise ConfigError where a configuration, at any depth, asks for code from a model's repository to be run."""
    if isinstance(conf, list):
        for value in conf:
            require_no_remote_code(value, where)
    if not isinstance(conf, dict):
        return
    for key, value in conf.items():
        if key == KEY and value:
            raise ConfigError(
                f"{where}: {KEY} would run code that comes with a model: leave it out, and choose a model without code"
            )
        if key == FORWARDED and isinstance(value, str) and os.path.isfile(value):
            value = json.loads(Path(value).read_text(encoding="utf-8"))
        require_no_remote_code(value, where)
