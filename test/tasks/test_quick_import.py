import subprocess
import sys

import pytest
import typeguard

from espnet2_kd.tasks.quick_import import typechecked_on_first_call


@typechecked_on_first_call
def double(x: int) -> int:
    """Twice."""
    return 2 * x


class Scaler:
    @typechecked_on_first_call
    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    @staticmethod
    @typechecked_on_first_call
    def name(prefix: str) -> str:
        return prefix + "scaler"

    @classmethod
    @typechecked_on_first_call
    def build(cls, factor: int) -> "Scaler":
        return cls(factor)


def test_postponed_checks_still_refuse_wrong_types():
    assert double(3) == double(x=3) == 6
    assert double.__doc__ == "Twice." and double.__name__ == "double"
    assert Scaler.build(2).factor == 2 and Scaler.name("a") == "ascaler"
    for call in (lambda: double("3"), lambda: Scaler("2"), lambda: Scaler.build("2"), lambda: Scaler.name(1)):
        with pytest.raises(typeguard.TypeCheckError):
            call()


def test_functions_inside_functions_keep_their_checks():
    @typechecked_on_first_call
    def negative(x: int) -> int:
        return -x

    assert negative(3) == -3
    with pytest.raises(typeguard.TypeCheckError):
        negative("3")


def test_classes_are_checked_as_before():
    @typechecked_on_first_call
    class Holder:
        def put(self, x: int) -> int:
            return x

    with pytest.raises(typeguard.TypeCheckError):
        Holder().put("3")


def test_a_lazy_module_loads_when_a_name_is_asked_for_and_not_before():
    code = """
import sys
from espnet2_kd.tasks import quick_import
quick_import.LAZY_MODULES = ("wave", "no_such_module_anywhere")
sys.modules.pop("wave", None)
quick_import.quick_import()
import inspect, wave
inspect.getmodule(inspect.currentframe())
assert wave.__file__.endswith("wave.py") and "Wave_read" not in vars(wave)
from wave import Wave_read
assert isinstance(Wave_read, type) and wave.Wave_read is Wave_read and "__getattr__" not in vars(wave)
quick_import.quick_import()
assert wave.Wave_read is Wave_read and "no_such_module_anywhere" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
