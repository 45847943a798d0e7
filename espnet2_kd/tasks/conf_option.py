"""Options such as `--encoder_conf key=value`, read as data."""

from __future__ import annotations

import argparse
import ast
import copy
from typing import Any

import yaml
from espnet2.utils.nested_dict_action import NestedDictAction


class ConfOption(NestedDictAction):
    """As ESPnet2's, whose values may be Python programs: it tries `eval` first, and YAML that makes any object afterwards."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str,
        option_string: str | None = None,
    ) -> None:
        key, equals, text = values.partition("=")
        conf = copy.deepcopy(getattr(namespace, self.dest, None) or {})
        if equals:
            self._set(conf, key.split("."), self._read(text) if text.strip() else text)
        else:
            conf.update(self._mapping(values))
        setattr(namespace, self.dest, conf)

    def _set(self, conf: dict[str, Any], keys: list[str], value: Any) -> None:
        *outer, last = keys
        for key in outer:
            if not isinstance(conf.get(key), dict):
                conf[key] = {}
            conf = conf[key]
        conf[last] = value

    def _mapping(self, text: str) -> dict[str, Any]:
        # Configurations written down by argparse come back as Python writes them.
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = self._read(text)
        if not isinstance(value, dict):
            raise argparse.ArgumentError(self, f"a mapping or key=value is expected, not {text!r}")
        return value

    def _read(self, text: str) -> Any:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            what = str(error).splitlines()[0]
            raise argparse.ArgumentError(self, f"{text!r} is no plain YAML ({what})") from error
