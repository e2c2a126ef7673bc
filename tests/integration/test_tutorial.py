"""The tutorial runs, says what it claims, and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parent.parent.parent / "data" / "tutorial.ipynb"


@pytest.fixture
def notebook():
    found = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(found)
    return found


def test_it_is_kept_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert TUTORIAL.stat().st_size < 20_000


def test_it_runs_and_finds_collisions(notebook, tmp_path):
    NotebookClient(notebook, timeout=1200, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    shown = [output.data for output in outputs if output.output_type == "execute_result"]
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert len(pages) == 3
    assert pages[0].count("data:image/png") == pages[2].count("data:image/png") == 7
    assert "of 200 samples, in the target's class" in pages[1].replace("&#39;", "'")
    accuracy = float(printed.split("test accuracy ")[1].split("%")[0])
    assert accuracy > 85
    assert "features of the target: [True, True, True]" in printed
    assert "its class: [True, True, True]" in printed
    assert "features within 1: [True, True, True]" in printed
    violation = float(printed.split("violation of a constraint: ")[1].split()[0])
    assert violation < 1e-9
    assert float(printed.split("smallest margin ")[1].split(",")[0]) > 0
    assert "vertices.h5" in printed
    assert printed.rstrip().endswith("True")
