import os
import subprocess
import sys
from pathlib import Path

import pytest
import typeguard

from espnet2_kd.tasks.quick_import import typechecked_on_first_call

ROOT = Path(__file__).resolve().parents[2]


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


def test_deferred_names_stand_for_the_real_ones(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    (tmp_path / "pack" / "heavy.py").write_text("""
from collections import UserDict

class Heavy(UserDict):
    kind = "heavy"

    def __init__(self, size: int = 3):
        super().__init__(size=size)

def weigh(x, y=2):
    return x * y

other = 5
""")
    code = """
import inspect, sys
from collections import UserDict
from espnet2_kd.tasks import quick_import
quick_import.LAZY_MODULES = ()
quick_import.LAZY_NAMES = {
    "pack.heavy": {"Heavy": "collections:UserDict", "weigh": None}, "no_such.module": {"A": None}, "pack.none": {"A": None},
}
quick_import.quick_import()
from pack.heavy import Heavy, weigh
assert "no_such.module" not in sys.modules and "pack.none" not in sys.modules
assert issubclass(Heavy, UserDict) and not isinstance(UserDict(), Heavy) and not issubclass(UserDict, Heavy)
assert "other" not in vars(sys.modules["pack.heavy"])
WHAT
real = sys.modules["pack.heavy"].Heavy
assert real is not Heavy and sys.modules["pack.heavy"].other == 5
made = Heavy(4)
assert type(made) is real and made["size"] == 4 and isinstance(made, Heavy) and issubclass(real, Heavy)
class Own(real): pass
assert isinstance(Own(), Heavy) and not isinstance(UserDict(), Heavy)
"""
    for what in (
        "Heavy()",
        "assert weigh(2, y=4) == 8",
        "assert Heavy.kind == 'heavy'",
        "from pack.heavy import other",
        "assert list(inspect.signature(Heavy).parameters) == ['size']",
    ):
        command = [sys.executable, "-c", code.replace("WHAT", what)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        )
        assert done.returncode == 0, done.stderr


def test_what_is_deferred_exists_and_is_not_needed_to_start():
    code = """
import sys
from espnet2_kd.tasks.asr import KDASRTask
from espnet2_kd.tasks import quick_import
KDASRTask.get_parser()
assert "transformers" not in sys.modules and "scipy.stats" not in sys.modules and "numba" not in sys.modules
from espnet2.tasks.asr import encoder_choices
from espnet2.utils.get_default_kwargs import get_default_kwargs
assert "max_layer" in get_default_kwargs(encoder_choices.get_class("beats"))
from importlib import import_module
for name, names in quick_import.LAZY_NAMES.items():
    for own, base in names.items():
        quick_import._load(sys.modules[name])
        real = getattr(sys.modules[name], own)
        if base is None:
            assert callable(real)
        else:
            module, _, base_name = base.partition(":")
            assert issubclass(real, getattr(import_module(module), base_name)), own
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stderr
