"""The examples of the pages on the library run as they stand."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest

from patchcollide import pipeline
from patchcollide.polytope import Polytope
from patchcollide.store.reader import PatchStore

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "data" / "guide" / "library.md"


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(code: str, page: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
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


def test_a_store_is_read_as_the_guide_reads_it(small_store, monkeypatch):
    place = small_store.path.parent / "stores"
    place.mkdir()
    small_store.path.rename(place / "photos")
    monkeypatch.chdir(place.parent)
    (code,) = blocks(GUIDE.with_name("store.md"))
    found = run(code, GUIDE)
    known = PatchStore.open(place / "photos").patches(np.array([found["patch_id"]]))
    assert np.array_equal(known[0], found["patch"])


def test_the_penalty_of_the_guide_is_one():
    (code,) = blocks(GUIDE.with_name("networks.md"))
    found = run(code, GUIDE)
    assert found["loss"].requires_grad
    assert float(found["loss"].detach()) > 0


def test_commands_as_functions_are_called_as_they_can_be(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("index", "collide"):
        monkeypatch.setattr(pipeline, name, create_autospec(getattr(pipeline, name)))
    (code,) = blocks(GUIDE)[1:]
    found = run(code, GUIDE)
    assert (found["config"].retrieval.k, found["config"].seed) == (10, 3)
    index: Any = pipeline.index
    index.assert_called_once()
    collide: Any = pipeline.collide
    assert collide.call_args.args[-1] is found["store"]
