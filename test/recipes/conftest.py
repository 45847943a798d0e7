"""A copy of a recipe in a temporary directory, and what its data stage writes, read without the project's own code."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Recipe:
    """One copied recipe directory."""

    path: Path

    def data(self, *options, **environment):
        """Run local/data.sh and return the completed process."""
        return subprocess.run(
            ["bash", "local/data.sh", *map(str, options)],
            cwd=self.path,
            env={
                "KD_ROOT": str(ROOT),
                "KD_VENV": sys.prefix,
                "OMP_NUM_THREADS": "1",
                **base_environment(),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def table(self, name):
        """Read `data/<set>/<file>` as {key: rest of the line}."""
        lines = (self.path / "data" / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def sets(self):
        """Names of the data directories."""
        return sorted(path.name for path in (self.path / "data").iterdir() if path.is_dir())


def base_environment():
    """The caller's environment without anything that points to corpora."""
    return {key: value for key, value in os.environ.items() if key not in ("KD_DATA", "KD_ROOT", "KD_VENV")}


@pytest.fixture
def recipe(tmp_path):
    """Return a function that copies egs2/<name>/<task>, without what its stages have made."""

    def copy(name, task="asr1"):
        source, target = ROOT / "egs2" / name / task, tmp_path / "egs2" / name / task
        for path in [*source.glob("run*.sh"), *source.glob("local/*.*"), *source.glob("conf/*.yaml")]:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.relative_to(source))
        return Recipe(target)

    return copy


@pytest.fixture
def local_module(monkeypatch):
    """Return a function that imports egs2/<corpus>/<task>/local/<module>.py; the recipes' modules share names."""
    before = set(sys.modules)

    def load(corpus, module, task="asr1"):
        monkeypatch.syspath_prepend(str(ROOT / "egs2" / corpus / task / "local"))
        return __import__(module)

    yield load
    for name in set(sys.modules) - before:
        if "/egs2/" in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def chinese_bert(make_bert):
    """Function: sentences -> directory of a random BERT of twelve thin layers that reads their characters."""

    def make(sentences):
        return make_bert(sorted(set("".join(sentences))), num_hidden_layers=12, intermediate_size=16)

    return make
