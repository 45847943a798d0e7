"""The modules of tools/docs, which lie outside the package."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools/docs"


@pytest.fixture
def docs_module(monkeypatch):
    """Return a function that imports tools/docs/<name>.py."""
    before = set(sys.modules)

    def load(name):
        monkeypatch.syspath_prepend(str(TOOLS))
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(TOOLS)):
            del sys.modules[name]
