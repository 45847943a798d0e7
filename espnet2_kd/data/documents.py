"""YAML and JSON files that people, and killed programs, have written; whatever is in them, what is wrong with it is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from espnet2_kd.data.problems import DataError, first_line, one_problem

NUMBER = (int, float)
# With aliases a few lines can stand for more values than memory holds.
MAX_VALUES = 1_000_000
# What yaml's constructors raise for a value that is not of its tag, as `!!timestamp x` and numbers of 5000 digits.
_BAD_VALUE = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def read_yaml(path: str | PathLike) -> Any:
    """Read one YAML document of plain values; raises DataError for anything else."""
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Read one YAML document; `where` is what a DataError names."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node, where)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise one_problem(where, "is nested too deeply", "write it with fewer levels") from None
    except DataError:
        raise
    except _BAD_VALUE as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise one_problem(
            where, f"is no YAML of plain values ({what.splitlines()[0]})", "correct it", mark.line + 1 if mark else 0
        ) from error


def read_json(path: str | PathLike, shape: Mapping[str, Any] | None = None) -> Any:
    """Read a JSON file; with a shape, an object that has such values.

    shape: key -> type, tuple of types, or the shape of an object within; other keys may be there too. What `key?` names may be
        missing or null. `NUMBER` is a finite one.

    Raises:
        DataError: no JSON, or of another shape.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        what = f"is no JSON ({first_line(error)})"
        raise one_problem(path, what, "restore it, or run again what writes it", getattr(error, "lineno", 0)) from error
    if shape is not None:
        check_shape(content, shape, path)
    return content


def read_text(path: str | PathLike) -> str:
    """Read a file of UTF-8; raises DataError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise one_problem(path, f"cannot be read ({error.strerror})", "give a file that can") from error
    except UnicodeDecodeError as error:
        raise one_problem(path, f"not UTF-8 at byte {error.start + 1}", "convert it: iconv -t UTF-8") from error


def _check_size(root: yaml.Node, where: str) -> None:
    """Raise DataError for a document that is within itself, or that stands for too many values."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in inside:
            raise one_problem(where, "holds itself, by an alias", "write out what is meant", node.start_mark.line + 1)
        if key not in sizes:
            inside.add(key)
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = (part for pair in parts for part in pair) if isinstance(node, yaml.MappingNode) else parts
            sizes[key] = 1 + sum(map(size, parts))
            inside.remove(key)
        if sizes[key] > MAX_VALUES:
            what = f"stands for more than {MAX_VALUES} values, by aliases of aliases"
            raise one_problem(where, what, "write out what is meant", node.start_mark.line + 1)
        return sizes[key]

    size(root)


def check_shape(content: Any, shape: Mapping[str, Any], path: str | PathLike, above: str = "") -> None:
    """Raise DataError unless `content` is of a shape as `read_json` takes it."""
    if not isinstance(content, dict):
        raise one_problem(path, f"{above or 'all of it'}: an object is expected", "run again what writes it")
    for key, wanted in shape.items():
        optional, key = key.endswith("?"), key.removesuffix("?")
        name = f"{above}.{key}" if above else key
        value = content.get(key)
        if value is None:
            if not optional:
                raise one_problem(path, f"{name} is missing", "run again what writes it")
        elif isinstance(wanted, Mapping):
            check_shape(value, wanted, path, name)
        elif not _is_a(value, wanted):
            raise one_problem(path, f"{name} cannot be {value!r:.50}", "run again what writes it")


def _is_a(value: Any, wanted: type | tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, wanted) and not (wanted == NUMBER and not abs(value) <= sys.float_info.max)
