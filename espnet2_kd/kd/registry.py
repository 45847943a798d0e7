"""Names in a YAML file become objects here, and a wrong name or keyword fails with the nearest valid one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any


class ConfigError(ValueError):
    """A distillation setting that cannot be built; the message says which and what would be valid."""


def nearest(name: str, valid: Iterable[str], limit: int = 3) -> str:
    """`did you mean ...` with the names closest to `name`, or the full list when none is close."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(close) + "?"
    return "valid: " + ", ".join(valid)


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
            keywords = dict(keywords or {})
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
        for key in keywords:
            if key not in settable:
                raise ConfigError(f"{where}: {self.kind} {name!r} has no keyword {key!r}; {nearest(key, settable)}")
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
