"""The page of names that a config may hold is read from the sources; the registries themselves must say the same."""

import ast
import inspect
from pathlib import Path

import pytest

from espnet2_kd.kd.heads import HEADS
from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.match import MATCHES
from espnet2_kd.kd.schedule import SCHEDULES
from espnet2_kd.kd.teachers import TEACHERS

ROOT = Path(__file__).resolve().parents[2]
REGISTRIES = {
    "LOSSES": LOSSES,
    "HEADS": HEADS,
    "TEACHERS": TEACHERS,
    "MATCHES": MATCHES,
    "SCHEDULES": SCHEDULES,
}


@pytest.mark.parametrize("registry", REGISTRIES)
def test_names_keywords_and_defaults(docs_module, registry):
    names = docs_module("config_names")
    found = {named.name: named for named in names.registered(ROOT, registry)}
    assert found.keys() == REGISTRIES[registry].classes.keys()
    for name, cls in REGISTRIES[registry].classes.items():
        parameters = inspect.signature(cls).parameters
        wanted = {
            key: None if parameter.default is inspect.Parameter.empty else parameter.default
            for key, parameter in parameters.items()
            if key not in names.GIVEN and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        told = {key: default for key, _, default in found[name].keywords}
        assert told.keys() == wanted.keys(), name
        for key, default in told.items():
            assert (default is None) == (parameters[key].default is inspect.Parameter.empty), (name, key)
            if default is not None and not default.isidentifier():
                assert ast.literal_eval(default) == wanted[key], (name, key)


def test_the_page_names_them_all(docs_module):
    page = docs_module("config_names").config_page(ROOT)
    for registry in REGISTRIES.values():
        for name, cls in registry.classes.items():
            assert f"### `{name}` " in page
            assert f"reference/kd.md#{cls.__module__}.{cls.__qualname__}" in page


def test_what_keywords_mean_is_beside_them(docs_module):
    page = docs_module("config_names").config_page(ROOT)
    assert "| `temperature` | `float` | `0.02` | 0.02 in the paper. |" in page
    assert "| `up` | `int | None` | `None` | teacher frames per student frame, or the reverse" in page
