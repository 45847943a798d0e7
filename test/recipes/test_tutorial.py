"""The tutorial that distils a model from a TSV runs from its corpus to its table."""

import importlib
from pathlib import Path

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_distil_from_a_tsv(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/docs"))
    notebooks = importlib.import_module("notebooks")
    path = ROOT / "doc/tutorials/1_distil_from_a_tsv.ipynb"
    before = sorted(path.parent.iterdir())
    try:
        ran = notebooks.run(path)
    except notebooks.Skipped as reason:
        pytest.skip(str(reason))
    outputs = {cell.id: "".join(str(output) for output in cell.get("outputs", [])) for cell in ran.cells}
    assert "60 utterances" in outputs["corpus"]
    for problem in ("file not found", "duplicate id"):
        assert problem in outputs["problems"]
    assert "loss_kd_last=" in outputs["train"]
    for system in ("train_teacher", "train_student_nokd", "my_terms"):
        assert f"| {system}" in outputs["score"]
    assert sorted(path.parent.iterdir()) == before
