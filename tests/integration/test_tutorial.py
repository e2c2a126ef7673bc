"""The notebooks run, say what they claim, and are kept with what they show."""

import re

import nbformat
import pytest
from notebooks import DATA, NAMES, run_notebook

from tests.helpers.presence import present

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


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


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
    outputs = outputs_of(notebook)
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


def said_of_section_4(notebook):
    """Returns the verdict's sentence and the figures of the row, as they are shown."""
    outputs = outputs_of(notebook)
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    (verdict,) = re.findall(
        r"^(?:Feature collision|Class collision|No collision): .*$", printed, re.M
    )
    (table,) = (one.data["text/plain"] for one in outputs if "mean L2" in str(one.get("data")))
    return verdict, [float(value) for value in table.splitlines()[1].split()[1:]]


def test_what_section_4_is_kept_with_is_a_collision_and_its_figures_agree():
    notebook = nbformat.read(DATA / "section4.ipynb", as_version=4)
    verdict, (in_class, target, samples, distance, largest) = said_of_section_4(notebook)
    kind = r"(Feature|Class) collision: 100 of 100 samples .* by up to ([\d.]+) \(0\.4 asked\)"
    name, tau = present(re.fullmatch(kind, verdict)).groups()
    assert (name == "Feature") == (largest <= 0.4)
    assert largest <= float(tau) < largest + 0.1
    assert in_class == 1
    assert 0 < samples <= 1
    assert target == pytest.approx(0.94, abs=0.01)
    assert distance > 2000
    pictures = [one for one in outputs_of(notebook) if "image/png" in one.get("data", {})]
    assert len(pictures) == 1


@pytest.mark.slow
def test_section_4_runs_and_shows_what_it_is_kept_with():
    pytest.importorskip("pandas")
    kept = nbformat.read(DATA / "section4.ipynb", as_version=4)
    found = run_notebook(nbformat.read(DATA / "section4.ipynb", as_version=4))
    assert said_of_section_4(found)[0].split(":")[0] == said_of_section_4(kept)[0].split(":")[0]
