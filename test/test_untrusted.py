"""Calls that would execute what they read are made with the keyword that keeps them from it, everywhere."""

import ast
from pathlib import Path

import pytest

import espnet2_kd

SOURCES = sorted(Path(espnet2_kd.__file__).parent.rglob("*.py"))


def calls_of(method):
    """Receiver, keywords and place of every call of a method."""
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == method:
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                yield ast.unparse(call.func.value), keywords, f"{path}:{call.lineno}"


@pytest.mark.parametrize(
    ("receiver", "method", "keyword", "value"),
    [("torch", "load", "weights_only", "True"), ("Auto", "from_pretrained", "trust_remote_code", "False")],
)
def test_the_keyword_is_given(receiver, method, keyword, value):
    calls = [call for call in calls_of(method) if call[0].startswith(receiver)]
    assert len(calls) > 3
    for _, keywords, where in calls:
        assert keywords.get(keyword) == value, where
