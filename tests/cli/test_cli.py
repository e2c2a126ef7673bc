"""The commands as people give them, on small images and a small network."""

import csv
import json
import re
import shlex
import subprocess
import sys

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import patchcollide
from patchcollide.cli.framework import app
from patchcollide.images.pictures import read_png
from patchcollide.io.files import write_json
from tests.helpers.commands import ARTEFACTS, assert_refused

PROMISED_KEYS = {
    "source", "target", "network", "layer", "target_class", "target_probability", "num_vertices",
    "num_samples", "success_rate", "success_interval", "sample_probability_mean",
    "vertex_distance_mean", "dataset_distance_mean", "steps", "seconds", "peak_memory_bytes",
    "seed", "versions",
}  # fmt: skip


HEAVY = {
    "PIL", "dask", "distributed", "faiss", "h5py", "jinja2", "joblib", "matplotlib", "pydantic",
    "safetensors", "scipy", "skimage", "sklearn", "starlette", "timm", "torch", "torchvision",
    "uvicorn",
}  # fmt: skip
"""Libraries that take long to import, for which only commands that use them should wait."""


def test_help_waits_for_no_library_that_computes():
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('loaded', sorted({HEAVY} & sys.modules.keys())))\n"
        "from patchcollide.cli import main\n"
        "sys.argv = ['patchcollide', '--help']\n"
        "main()"
    )
    run = [sys.executable, "-c", code]
    printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert "Usage" in printed
    assert printed.endswith("loaded []\n")


def test_version_is_printed():
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout.strip() == f"patchcollide {patchcollide.__version__}"


def test_a_collision_leaves_everything_it_promises(indexed):
    outcome = indexed.collide()
    assert outcome.exit_code == 0, outcome.said
    assert {path.name for path in indexed.run.iterdir()} == ARTEFACTS
    assert str(indexed.run / "report.html") in outcome.printed
    summary = json.loads((indexed.run / "summary.json").read_text())
    assert summary.keys() >= PROMISED_KEYS
    assert summary["seconds"].keys() == {"retrieve", "optimise", "evaluate", "report"}
    with h5py.File(indexed.run / "vertices.h5") as file:
        assert file["vertices"].shape == (5, 32, 32, 3)
        assert file["vertices"].dtype == np.float32
        for number, vertex in enumerate(file["vertices"][()]):
            saved = read_png(indexed.run / f"vertex-{number}.png")
            np.testing.assert_array_equal(np.rint(vertex), saved)
    with h5py.File(indexed.run / "neighbours.h5") as file:
        assert file["patches"].shape == (49, 3, 8, 8, 3)
        assert file["squared_distances"].dtype == np.int64
        np.testing.assert_array_equal(file["source"][()], read_png(indexed.run / "source.png"))
    with (indexed.run / "history.csv").open() as file:
        assert [int(float(row["step"])) for row in csv.DictReader(file)] == list(range(6))


def test_every_output_carries_settings_seed_and_versions(indexed):
    assert indexed.collide("--seed", 11).exit_code == 0
    for name in ("vertices.h5", "neighbours.h5"):
        with h5py.File(indexed.run / name) as file:
            settings, versions = (json.loads(file.attrs[n]) for n in ("settings", "versions"))
            assert (settings["seed"], file.attrs["seed"]) == (11, 11)
            assert versions["patchcollide"] == patchcollide.__version__
    config = json.loads((indexed.run / "config.json").read_text())
    assert config["config"]["seed"] == 11
    assert len(config["identity"]["source"]) == 64


def test_pixels_need_no_store(world):
    outcome = world.collide("--pixels")
    assert outcome.exit_code == 0, outcome.said
    assert {path.name for path in world.run.iterdir()} == ARTEFACTS - {
        "contributions.h5",
        "neighbours.h5",
        "neighbours.png",
    }
    assert json.loads((world.run / "summary.json").read_text())["dataset_distance_mean"] is None


def test_the_same_command_again_does_nothing(composed):
    before = composed.files()
    outcome = composed.collide()
    assert outcome.exit_code == 0
    assert "holds this run already: nothing to do" in outcome.said
    assert composed.files() == before


def test_a_run_made_before_a_setting_existed_is_still_the_same_run(finished):
    path = finished.run / "config.json"
    about = json.loads(path.read_text())
    del about["config"]["exact"]
    about["fingerprint"] = "0" * 64
    write_json(path, about)
    outcome = finished.collide("--pixels")
    assert outcome.exit_code == 0
    assert "holds this run already: nothing to do" in outcome.said
    assert_refused(finished.collide("--pixels", "--set", "exact.extents=false"), 2, "RunError")


def test_the_recorded_command_makes_the_run_again(indexed, monkeypatch):
    indexed.collide("--set", "optimiser.start_noise=0.25")
    recorded = json.loads((indexed.run / "config.json").read_text())["inputs"]["command"]
    vertices = (indexed.run / "vertex-0.png").read_bytes()
    indexed.run.rename(indexed.folder / "before")
    words = shlex.split(recorded)[1:]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (indexed.run / "vertex-0.png").read_bytes() == vertices


def test_a_run_is_measured_again_from_its_png_files_alone(composed):
    path = composed.run / "summary.json"
    before = json.loads(path.read_text())
    assert composed("evaluate", composed.run).exit_code == 0
    assert json.loads(path.read_text()) == before
    for number in range(5):
        (composed.run / f"vertex-{number}.png").write_bytes(
            (composed.run / "target.png").read_bytes()
        )
    composed("evaluate", composed.run)
    after = json.loads(path.read_text())
    assert (after["success_rate"], after["vertex_distance_mean"]) == (1.0, pytest.approx(0, abs=1))
    assert after["unrounded"] == before["unrounded"]


def claims_of(world):
    return json.loads((world.run / "summary.json").read_text())["certificate"]


def test_claims_add_walks_to_a_run_and_its_page(composed):
    before = claims_of(composed)
    assert before["walk"] is None
    assert (before["others"]["num_images"], before["others"]["num_pairs"]) == (6, 15)
    outcome = composed("certify", composed.run, "--max-breakpoints", 2000, "--edges", 3)
    assert outcome.exit_code == 0, outcome.said
    walk = claims_of(composed)["walk"]
    assert (walk["num_edges"], walk["num_walked"], walk["complete"]) == (10, 3, False)
    assert walk["share_walked"] == pytest.approx(0.3)
    assert claims_of(composed) == before | {"walk": walk}
    assert "active units, mean gap" in outcome.printed
    assert "The smallest margin of the target's class" in outcome.printed
    assert "Walks along the edges" in (composed.run / "report.html").read_text()
    # Measured again, the same vertices keep what was found.
    assert composed("evaluate", composed.run).exit_code == 0
    assert claims_of(composed) == before | {"walk": walk}


def test_other_images_come_from_where_one_says(finished, write_images):
    assert claims_of(finished)["others"] is None
    outcome = finished("certify", finished.run, "--edges", 0)
    assert outcome.exit_code == 0, outcome.said
    assert "no store to take other images from" in outcome.said
    assert claims_of(finished)["others"] is None
    images = write_images("others", num=5)
    (images / "class-0" / "broken.png").write_bytes(b"no picture")
    finished("certify", finished.run, "--images", images, "--null-pairs", 5, "--edges", 0)
    others = claims_of(finished)["others"]
    assert (others["num_images"], others["num_pairs"]) == (4, 5)
    finished.index(images)
    finished("certify", finished.run, "--images", finished.store, "--edges", 0)
    assert claims_of(finished)["others"]["num_images"] == 5


def test_claims_of_other_vertices_are_refused(finished):
    (finished.run / "vertex-1.png").write_bytes((finished.run / "target.png").read_bytes())
    outcome = finished("certify", finished.run)
    assert_refused(outcome, 2, "not measured on the vertices", "patchcollide evaluate")
    assert_refused(finished("certify", finished.folder / "none"), 2, "is not a run")
    assert finished("certify", finished.run, "--edges", "some").exit_code == 2


def test_runs_are_compared_side_by_side(composed, tmp_path):
    pixels = tmp_path / "free"
    pair = ["--source", composed.source, "--target", composed.target]
    assert composed("collide", *pair, "--pixels", "--out", pixels).exit_code == 0
    out = tmp_path / "table.md"
    outcome = composed("compare", pixels, composed.run, "--out", out)
    assert outcome.exit_code == 0, outcome.said
    assert outcome.printed.strip() == out.read_text().strip()
    kinds = re.findall(r"^\| (run|free) \| (patches|pixels) \|", out.read_text(), re.MULTILINE)
    assert kinds == 3 * [("run", "patches"), ("free", "pixels")]
    assert_refused(composed("compare", composed.run, tmp_path), 2, "is not a run")


def test_a_report_is_drawn_again(composed):
    page = (composed.run / "report.html").read_bytes()
    (composed.run / "report.html").unlink()
    assert composed("report", composed.run).exit_code == 0
    assert (composed.run / "report.html").read_bytes() == page


@pytest.mark.parametrize("engine", ["ann", "exact"])
def test_neighbours_and_their_contact_sheet_are_written(engine, indexed):
    out = indexed.folder / "found" / "n.h5"
    outcome = indexed(
        "retrieve", indexed.source, "--store", indexed.store, "--out", out, "--engine", engine
    )
    assert outcome.exit_code == 0, outcome.said
    assert out.exists()
    assert out.with_suffix(".png").exists()


def test_quiet_says_nothing_and_verbose_more(world, write_images):
    # As many as a store needs for no warning.
    assert world.index(write_images(num=20)).exit_code == 0
    assert world.collide("--quiet").said == ""
    world.run.rename(world.folder / "moved")
    assert "step 3:" in world.collide("-v").said
