"""Every notebook runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    ran = NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [cell for cell in ran.cells if cell.cell_type == "code" and cell.outputs]
    assert outputs


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
