"""Configuration files that say only what they change of another."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from espnet2.utils import config_argparse
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet2_kd.data.documents import read_yaml
from espnet2_kd.kd.registry import nearest
from espnet2_kd.tasks.conf_option import ConfOption

BASE = "base"


def load_config(path: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file on top of the one that it names as `base: FILE`, a path as seen from its own folder.

    Mappings are merged key by key; anything else, lists too, takes the place of what the base says.

    Raises:
        ValueError: a file that is missing, no mapping, or its own base; the message names it.
    """
    path = Path(path)
    said = f" (base of {above[-1]})" if above else ""
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long for any file
        raise ValueError(f"no such file: {path}{said}")
    if path.resolve() in (other.resolve() for other in above):
        raise ValueError(f"{path}: is its own base")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}{said}: a mapping is expected")
    if not all(isinstance(key, str) for key in content):
        raise ValueError(
            f"{path}{said}: {next(key for key in content if not isinstance(key, str))!r} is no option's name"
        )
    base = content.pop(BASE, None)
    if not isinstance(base, (str, NoneType)):
        raise ValueError(f"{path}: {BASE}: the name of a file is expected, not {base!r:.50}")
    return content if base is None else _merge(load_config(path.parent / base, (*above, path)), content)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


class ArgumentParser(config_argparse.ArgumentParser):
    """ESPnet2's parser; `--config` may name a file with a `base`, and no value is executed."""

    def parse_known_args(self, args=None, namespace=None):
        for action in self._actions:
            if isinstance(action, NestedDictAction):
                action.__class__ = ConfOption
        config = argparse.ArgumentParser.parse_known_args(self, args)[0].config
        if config is not None:
            try:
                self.set_known_defaults(load_config(config), config)
            except ValueError as error:
                self.error(str(error))
        return argparse.ArgumentParser.parse_known_args(self, args, namespace)

    def set_known_defaults(self, values: dict[str, Any], source: str) -> None:
        """Set defaults, or raise ValueError for a name that is no option."""
        unknown = sorted(values.keys() - {action.dest for action in self._actions})
        if unknown:
            known = [action.dest for action in self._actions]
            said = "; ".join(f"{name}: {nearest(name, known, all_of_them=False)}" for name in unknown)
            raise ValueError(f"{source}: no such option: {said}")
        self.set_defaults(**values)
