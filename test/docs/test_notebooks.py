"""The quick tutorials run from beginning to end; each checks its own numbers. The long one is in test/recipes."""

from pathlib import Path

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
import nbformat

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "doc/tutorials"
ALL = sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2_write_your_own_loss", "3_read_the_report"])
def test_it_runs(docs_module, name):
    notebooks = docs_module("notebooks")
    before = sorted(TUTORIALS.iterdir())
    try:
        ran = notebooks.run(TUTORIALS / f"{name}.ipynb")
    except notebooks.Skipped as reason:
        pytest.skip(str(reason))
    code = [cell for cell in ran.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert sum(bool(cell.outputs) for cell in code) >= 5
    assert sorted(TUTORIALS.iterdir()) == before


@pytest.mark.parametrize("name", ALL)
def test_it_is_committed_without_outputs(name):
    notebook = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_a_missing_program_is_a_skip(docs_module, monkeypatch, tmp_path):
    notebooks = docs_module("notebooks")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(notebooks.Skipped, match="needs espeak-ng"):
        notebooks.run(TUTORIALS / "1_distil_from_a_tsv.ipynb")


def test_a_failing_cell_fails(docs_module, tmp_path):
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2, 'wrong'")])
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    with pytest.raises(CellExecutionError, match="wrong"):
        docs_module("notebooks").run(tmp_path / "bad.ipynb")


def test_a_page_shows_what_a_run_printed(docs_module, monkeypatch, tmp_path):
    notebooks = docs_module("notebooks")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    printed = nbformat.v4.new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m\n```\n")
    table = nbformat.v4.new_output("display_data", data={"text/markdown": "| a |\n|---|", "text/plain": "<object>"})
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("print()"),
    ]
    path = tmp_path / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    page = notebooks.to_markdown(path)
    assert page.startswith("# Title\n\n!!! note") and "``` { .python }\nprint()\n```" in page

    cells[1].outputs = [printed, table]
    notebooks.kept(path).parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebooks.kept(path))
    page = notebooks.to_markdown(path)
    assert "note" not in page
    assert "```` { .text .output }\nred\n```\n````" in page and "\n| a |\n|---|" in page and "<object>" not in page
