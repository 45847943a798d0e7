"""Names in a YAML file become objects here, and a wrong name or keyword fails with the nearest valid one."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A distillation setting that cannot be built; the message says which and what would be valid."""


def nearest(name: Any, valid: Iterable[str], limit: int = 3, all_of_them: bool = True) -> str:
    """`did you mean ...` with the names closest to `name`, or the full list when none is close and there may be a list."""
    valid = sorted(valid)
    close = difflib.get_close_matches(str(name), valid, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(close) + "?"
    return "valid: " + ", ".join(valid) if all_of_them else "none is named like it"


def as_keywords(given: Any, where: str) -> dict[str, Any]:
    """The keywords of a spec; none where it says nothing. Raises ConfigError for anything but a mapping."""
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{where}: keywords are written `{{keyword: value}}`, not {given!r:.80}")
    return dict(given or {})


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value of a YAML file is of an annotated type; types that YAML does not have fit always."""
    if get_origin(hint) in (Union, UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(fits(part, get_args(hint)[0]) for part in value)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    if hint in (int, bool, str, NoneType):
        return type(value) is hint
    return True


class Registry:
    """Maps `name` or `{name: {keyword: value}}` to an object."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.classes: dict[str, type] = {}

    def add(self, name: str):
        """Class decorator that registers the class under `name`."""

        def register(cls: type) -> type:
            self.classes[name] = cls
            return cls

        return register

    def parse(self, spec: str | Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
        """Split a spec into its name and its keywords.

        Raises:
            ConfigError: unknown name, unknown keyword, or a spec of another shape.
        """
        if isinstance(spec, str):
            name, keywords = spec, {}
        elif isinstance(spec, Mapping) and len(spec) == 1:
            name, keywords = next(iter(spec.items()))
            keywords = as_keywords(keywords, f"{where}: {self.kind} {name!r}")
        else:
            raise ConfigError(
                f"{where}: a {self.kind} is written `name` or `{{name: {{keyword: value}}}}`, not {spec!r}"
            )
        if name not in self.classes:
            raise ConfigError(f"{where}: no {self.kind} named {name!r}; {nearest(name, self.classes)}")
        return name, keywords

    def check(
        self, spec: str | Mapping[str, Any], where: str, injected: Iterable[str] = ()
    ) -> tuple[type, dict[str, Any]]:
        """The class of `spec` and its keywords, without building it; `injected` are names the user may not set."""
        name, keywords = self.parse(spec, where)
        cls = self.classes[name]
        accepted = _accepted(cls)
        settable = [key for key in accepted if key not in injected]
        hints = get_type_hints(cls.__init__)
        for key, value in keywords.items():
            if key not in settable:
                raise ConfigError(f"{where}: {self.kind} {name!r} has no keyword {key!r}; {nearest(key, settable)}")
            if key in hints and not fits(value, hints[key]):
                wanted = getattr(hints[key], "__name__", None) or hints[key]
                raise ConfigError(f"{where}: {self.kind} {name!r}: {key}: {wanted} is expected, not {value!r:.80}")
        required = [key for key in settable if accepted[key].default is inspect.Parameter.empty and key not in keywords]
        if required:
            raise ConfigError(f"{where}: {self.kind} {name!r} needs {', '.join(required)}")
        return cls, keywords

    def build(self, spec: str | Mapping[str, Any], where: str, **injected: Any) -> Any:
        """Build the object of `spec`; `injected` are the arguments that the program, not the user, supplies."""
        cls, keywords = self.check(spec, where, injected)
        return cls(**keywords, **{key: value for key, value in injected.items() if key in _accepted(cls)})


def _accepted(cls: type) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls).parameters
    return {key: p for key, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
