"""The notebooks run, say what they claim, and are kept with what they show."""

import re

import nbformat
import pytest
from notebooks import DATA, NAMES, run_notebook

TUTORIAL = DATA / "tutorial.ipynb"


@pytest.fixture
def notebook():
    found = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(found)
    return found


def kinds_of(notebook):
    """What each cell shows, with numbers and pictures masked: these are of a machine."""
    return [
        [
            (
                one.output_type,
                sorted(one.get("data", {})),
                re.sub(r"[\d.e+-]+", "#", one.get("text", "")),
            )
            for one in cell.outputs
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_kept_with_what_they_show(name):
    path = DATA / f"{name}.ipynb"
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    cells = [cell for cell in found.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2
    assert not any(one.output_type == "error" for cell in cells for one in cell.outputs)
    assert path.stat().st_size < 1_500_000
    # Nothing of the machine that ran them.
    assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text())


def test_it_runs_and_finds_collisions(notebook):
    kept = kinds_of(notebook)
    notebook = run_notebook(notebook)
    assert kinds_of(notebook) == kept
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
