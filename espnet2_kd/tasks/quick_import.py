"""Make ``import espnet2.tasks.*`` cheaper without changing what the imported code does."""

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from typing import Any

import typeguard

# espnet2 imports g2p_en for every task; the package then loads nltk and inflect and tries to download two nltk
# archives. Only its G2p class is ever used, by the g2p_en token types.
LAZY_MODULES = ("g2p_en",)

_check_now = typeguard.typechecked


def quick_import() -> None:
    """Postpone type-check instrumentation and ``g2p_en`` to first use; call before espnet2 is imported.

    typeguard parses and compiles the whole source file again for each of espnet2's 500 decorated functions. A process
    calls few of them, so each is instrumented when it is called for the first time: wrong types are still refused.
    Safe to call more than once.
    """
    typeguard.typechecked = typechecked_on_first_call
    for name in LAZY_MODULES:
        _import_lazily(name)


def typechecked_on_first_call(target: Any = None, **options: Any) -> Any:
    """Do what ``typeguard.typechecked`` does, at the first call of the function.

    One difference: an annotation that names a local variable of an enclosing function is not checked. espnet2 has none.
    """
    if not inspect.isfunction(target) or options:
        return _check_now(target, **options)
    checked: Callable | None = None

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:
            checked = _check_now(target)
        return checked(*args, **kwargs)

    return call


def _import_lazily(name: str) -> None:
    """Put a module into ``sys.modules`` that runs its own code when one of its names is asked for."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)

    # importlib.util.LazyLoader would load on any attribute, and inspect.getmodule asks every module for __file__.
    def load_and_get(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        del module.__getattr__
        spec.loader.exec_module(module)
        return getattr(module, attribute)

    module.__getattr__ = load_and_get
    sys.modules[name] = module
