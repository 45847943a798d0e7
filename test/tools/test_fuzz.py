"""A little of `make fuzz`, the same examples every time."""

import sys
from pathlib import Path

import pytest

FUZZ = str(Path(__file__).resolve().parents[2] / "tools/fuzz")
sys.path.insert(0, FUZZ)
try:
    from harness import TooSlow, check, in_a_folder
    from targets import TARGETS
finally:
    sys.path.remove(FUZZ)

# Those that start programs or read sound are slower.
FEW = {"data_dirs": 10, "format_audio": 10, "score": 10, "report": 10, "make_tokens": 10}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_declared_errors(name):
    assert check(name, FEW.get(name, 40), seed=None)


def test_what_a_target_must_not_do_is_noticed(monkeypatch):
    """Another exception, an error without a word, and time that passes."""
    from espnet2_kd.kd.registry import ConfigError

    def fail(error):
        raise error

    with pytest.raises(KeyError):
        in_a_folder(lambda: fail(KeyError("x")))
    with pytest.raises(AssertionError, match="without a word"):
        in_a_folder(lambda: fail(ConfigError("")))
    in_a_folder(lambda: fail(ConfigError("x: y")))
    monkeypatch.setitem(in_a_folder.__globals__, "CPU_SECONDS", 0.3)

    def hang():
        while True:
            pass

    with pytest.raises(TooSlow):
        in_a_folder(hang)
