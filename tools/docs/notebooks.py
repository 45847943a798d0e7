#!/usr/bin/env python3
"""Runs the tutorial notebooks, and turns them into pages.

Usage: tools/docs/notebooks.py [NAME]...   runs those whose outputs are not kept or of other code; all, without names

Notebooks are committed without outputs. What a run printed is kept in .site_cache/ and shown on the page.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]
CACHE = ".site_cache"
TIMEOUT = 1800  # seconds for a cell
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
NOT_RUN = '!!! note ""\n    This page shows no outputs: the notebook has not been run here. `make docs` runs it.\n'


class Skipped(Exception):
    """A notebook that said why it cannot run on this machine."""


def find_notebooks(root: Path) -> list[Path]:
    """The tutorials, in their order."""
    return sorted((root / "doc/tutorials").glob("*.ipynb"))


def run(path: Path) -> Any:
    """Run a notebook where it lies and return it with its outputs.

    Raises:
        Skipped: it ended with SystemExit, as it does where a program is missing.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # Sockets that nobody else may talk to. A relative path would be another one for the kernel.
        manager = KernelManager(transport="ipc", ip=f"{folder}/kernel", connection_file=f"{folder}/kernel.json")
        # The kernel must be this Python, whatever kernels the user has registered.
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        manager._kernel_spec = KernelSpec(argv=command, language="python")
        client = NotebookClient(notebook, km=manager, timeout=TIMEOUT, resources={"metadata": {"path": path.parent}})
        try:
            client.execute(env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", "NO_COLOR": "1"})
        except CellExecutionError as error:
            if error.ename == "SystemExit":
                raise Skipped(error.evalue) from error
            raise
        finally:
            if manager.has_kernel:
                manager.shutdown_kernel(now=True)
    return notebook


def kept(path: Path) -> Path:
    """Where the outputs of a notebook are kept, as long as its code is the same."""
    cells = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    digest = hashlib.sha256(cells.encode()).hexdigest()[:16]
    return ROOT / CACHE / f"{path.stem}.{digest}.ipynb"


def to_markdown(path: Path) -> str:
    """A page of a notebook, with the outputs of its last run where there was one."""
    notebook = nbformat.read(path, as_version=4)
    ran = kept(path).is_file()
    outputs = {}
    if ran:
        outputs = {cell.id: cell.get("outputs", []) for cell in nbformat.read(kept(path), as_version=4).cells}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(_fenced(cell.source, "python"))
            parts += [text for output in outputs.get(cell.id, []) if (text := _output(output))]
    if not ran:
        parts.insert(1, NOT_RUN)
    return "\n\n".join(parts) + "\n"


def _output(output: Any) -> str:
    if output.output_type == "stream":
        text = output.text
    else:
        data = output.get("data", {})
        if "text/markdown" in data:
            return data["text/markdown"]
        text = data.get("text/plain", "")
    text = ESCAPES.sub("", text).rstrip()
    return _fenced(text, "text", ' class="output"') if text else ""


def _fenced(text: str, language: str, attributes: str = "") -> str:
    ticks = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
    return f"{ticks} {{ .{language}{attributes and ' .output'} }}\n{text}\n{ticks}"


def main() -> None:
    """Command line."""
    names = sys.argv[1:]
    notebooks = [path for path in find_notebooks(ROOT) if not names or path.stem in names]
    for path in notebooks:
        target = kept(path)
        if target.is_file():
            continue
        print(f"running {path.relative_to(ROOT)}", flush=True)
        try:
            notebook = run(path)
        except Skipped as reason:
            print(f"{path.relative_to(ROOT)} was not run: {reason}", file=sys.stderr)
            continue
        target.parent.mkdir(exist_ok=True)
        for old in target.parent.glob(f"{path.stem}.*.ipynb"):
            old.unlink()
        nbformat.write(notebook, target)


if __name__ == "__main__":
    main()
