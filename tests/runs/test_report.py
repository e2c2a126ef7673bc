import json
import shutil

import numpy as np
import pytest

from patchcollide import pipeline
from patchcollide.api import find_polytope
from patchcollide.config_files import load_config
from patchcollide.errors import RunError
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.images.pictures import read_pixels
from patchcollide.io.files import write_json
from patchcollide.runs.folder import open_run
from patchcollide.runs.report import KINDS, write_picture
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An exact run of a digit; not to be changed."""
    folder = tmp_path_factory.mktemp("pictures")
    write_digits(folder / "digits", read_digits(None, "test"), 3)
    image = sorted((folder / "digits").rglob("*.png"))[0]
    overrides = ["network.name=mlp", "network.weights=random", "network.min_confidence=0"]
    overrides += ["optimiser.num_vertices=2", "evaluation.num_samples=8", "exact.extents=false"]
    overrides += ["evaluation.check_samples=40", "evaluation.null_samples=40"]
    return open_run(pipeline.find_exact(load_config(overrides=overrides), image, folder / "run"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "neighbours"])
def test_equal_runs_give_equal_pictures(run, tmp_path, kind):
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        first, second = (
            write_picture(run, tmp_path / f"{name}{suffix}", kind).read_bytes() for name in "ab"
        )
        assert first == second
        assert first.startswith(start)
    assert b"CreationDate" not in first


def test_a_table_is_larger_than_the_differences_alone(run, tmp_path):
    heights = [
        read_pixels(write_picture(run, tmp_path / f"{kind}.png", kind)).shape[0]
        for kind in ("table", "differences")
    ]
    assert heights[0] > heights[1]


def test_the_papers_tables_are_laid_out_alike(run, tmp_path):
    drawn = [
        write_picture(run, tmp_path / f"{kind}.png", kind).read_bytes()
        for kind in ("table", "table1", "table3", "table5")
    ]
    assert len(set(drawn)) == 1


def test_neighbours_are_drawn_of_runs_of_patches_alone(run, small_network, small_store, tmp_path):
    with pytest.raises(RunError, match="varies pixels, exact, so it has no neighbours to show"):
        write_picture(run, tmp_path / "a.pdf", "neighbours")
    assert not (tmp_path / "a.pdf").exists()
    rng = np.random.default_rng(1)
    source, target = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    settings = load_config(overrides=[*SMALL, "retrieval.engine=exact"])
    composed = find_polytope(
        small_network, "act", source, target, store=small_store.path, settings=settings
    )
    patches = open_run(composed.save(tmp_path / "patches"))
    drawn = write_picture(patches, tmp_path / "a.png", "neighbours")
    assert drawn.read_bytes() == (patches / "neighbours.png").read_bytes()
    assert b"/Font" in write_picture(patches, tmp_path / "a.pdf", "neighbours").read_bytes()


def test_letters_of_a_pdf_are_letters(run, tmp_path):
    content = write_picture(run, tmp_path / "a.pdf", "table").read_bytes()
    assert b"/Font" in content


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("a.jpg", "table", r"a\.jpg should end in \.png or \.pdf"),
        ("a", "table", r"should end in"),
        ("a.pdf", "table7", r"one of table, table1, .*neighbours, but is table7"),
    ],
)
def test_other_formats_and_kinds_are_refused(run, tmp_path, name, kind, reason):
    with pytest.raises(RunError, match=reason):
        write_picture(run, tmp_path / name, kind)
    assert not (tmp_path / name).exists()


def test_a_damaged_summary_is_named(run, tmp_path):
    run = open_run(shutil.copytree(run.folder, tmp_path / "run"))
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    del summary["vertices"]
    write_json(path, summary)
    with pytest.raises(RunError, match=r"summary\.json is damaged \(KeyError"):
        write_picture(run, tmp_path / "a.png", "table")
