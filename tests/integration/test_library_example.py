"""The examples of the pages on the library run as they stand."""

import re
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from patchcollide import pipeline
from patchcollide.polytope import Polytope

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "data" / "guide" / "library.md"


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(code: str, page: Path) -> dict:
    found = {}
    exec(compile(code, page.name, "exec"), found)  # noqa: S102
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", GUIDE], ids=lambda page: page.name)
def test_it_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(blocks(page)[0], page)
    assert found["polytope"].vertices.shape == (5, 64, 64, 3)
    assert found["images"].shape == (10, 64, 64, 3)
    assert found["numbers"]["num_samples"] == 100
    assert len(Polytope.load("runs/mine")) == 5


def test_the_readme_has_one_example():
    assert len(blocks(ROOT / "README.md")) == 1


def test_commands_as_functions_are_called_as_they_can_be(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("index", "collide"):
        monkeypatch.setattr(pipeline, name, create_autospec(getattr(pipeline, name)))
    (code,) = blocks(GUIDE)[1:]
    found = run(code, GUIDE)
    assert (found["config"].retrieval.k, found["config"].seed) == (10, 3)
    pipeline.index.assert_called_once()
    assert pipeline.collide.call_args.args[-1] is found["store"]
