"""The commands as people give them, on small images and a small network."""

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import patchcollide
from patchcollide.cli.framework import app
from patchcollide.errors import InterruptedWorkError
from patchcollide.images.pictures import read_png, write_png
from patchcollide.io.files import write_json
from patchcollide.networks import feature_files as extraction
from patchcollide.runs import collide as collisions
from patchcollide.runs import inputs as collision_inputs
from tests.conftest import SMALL

SETTINGS = [word for override in SMALL for word in ("--set", override)]
ARTEFACTS = {
    "config.json",
    "contributions.h5",
    "figure.png",
    "history.csv",
    "neighbours.h5",
    "neighbours.png",
    "report.html",
    "samples.h5",
    "source.png",
    "summary.json",
    "target.png",
    "vertices.h5",
    *(f"vertex-{number}.png" for number in range(5)),
}
PROMISED_KEYS = {
    "source", "target", "network", "layer", "target_class", "target_probability", "num_vertices",
    "num_samples", "success_rate", "success_interval", "sample_probability_mean",
    "vertex_distance_mean", "dataset_distance_mean", "steps", "seconds", "peak_memory_bytes",
    "seed", "versions",
}  # fmt: skip


class World:
    """A folder with pictures, in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store, self.run = folder / "store", folder / "run"
        self.source, self.target = folder / "source.png", folder / "target.png"
        rng = np.random.default_rng(5)
        for path in (self.source, self.target):
            write_png(
                path, rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
            )

    def __call__(self, *words: object) -> "Outcome":
        without = ("certify", "compare", "evaluate", "report", "--version")
        settings = [] if words[0] in without else SETTINGS
        result = CliRunner().invoke(app, [str(words[0]), *settings, *map(str, words[1:])])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, " ".join(result.stderr.split()))

    def index(self, images: Path, *more: object) -> "Outcome":
        return self("index", images, "--out", self.store, *more)

    def collide(self, *more: object) -> "Outcome":
        space = [] if "--pixels" in more else ["--store", self.store]
        pair = ["--source", self.source, "--target", self.target]
        return self("collide", *pair, *space, "--out", self.run, *more)

    def files(self) -> dict[str, int]:
        """Every file and when it was written."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in found}


class Outcome:
    """What a command did."""

    def __init__(self, exit_code: int, printed: str, said: str) -> None:
        self.exit_code, self.printed, self.said = exit_code, printed, said


@pytest.fixture
def world(tmp_path, small_network, monkeypatch):
    for stage in (collisions, collision_inputs, extraction):
        monkeypatch.setattr(stage, "load_network", lambda *_: small_network)
    return World(tmp_path)


@pytest.fixture
def indexed(world, write_images):
    outcome = world.index(write_images())
    assert outcome.exit_code == 0, outcome.said
    return world


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


def test_the_same_command_again_does_nothing(indexed):
    indexed.collide()
    before = indexed.files()
    outcome = indexed.collide()
    assert outcome.exit_code == 0
    assert "holds this run already: nothing to do" in outcome.said
    assert indexed.files() == before


def test_a_run_made_before_a_setting_existed_is_still_the_same_run(world):
    world.collide("--pixels")
    path = world.run / "config.json"
    about = json.loads(path.read_text())
    del about["config"]["exact"]
    about["fingerprint"] = "0" * 64
    write_json(path, about)
    outcome = world.collide("--pixels")
    assert outcome.exit_code == 0
    assert "holds this run already: nothing to do" in outcome.said
    assert_refused(world.collide("--pixels", "--set", "exact.extents=false"), 2, "RunError")


def test_the_recorded_command_makes_the_run_again(indexed, monkeypatch):
    indexed.collide("--set", "optimiser.start_noise=0.25")
    recorded = json.loads((indexed.run / "config.json").read_text())["inputs"]["command"]
    vertices = (indexed.run / "vertex-0.png").read_bytes()
    indexed.run.rename(indexed.folder / "before")
    words = shlex.split(recorded)[1:]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (indexed.run / "vertex-0.png").read_bytes() == vertices


def test_a_run_is_measured_again_from_its_png_files_alone(indexed):
    indexed.collide()
    path = indexed.run / "summary.json"
    before = json.loads(path.read_text())
    assert indexed("evaluate", indexed.run).exit_code == 0
    assert json.loads(path.read_text()) == before
    for number in range(5):
        (indexed.run / f"vertex-{number}.png").write_bytes(
            (indexed.run / "target.png").read_bytes()
        )
    indexed("evaluate", indexed.run)
    after = json.loads(path.read_text())
    assert (after["success_rate"], after["vertex_distance_mean"]) == (1.0, pytest.approx(0, abs=1))
    assert after["unrounded"] == before["unrounded"]


def certificate_of(world):
    return json.loads((world.run / "summary.json").read_text())["certificate"]


def test_a_certificate_adds_walks_to_a_run_and_its_page(indexed):
    indexed.collide()
    before = certificate_of(indexed)
    assert before["walk"] is None
    assert (before["others"]["num_images"], before["others"]["num_pairs"]) == (6, 15)
    outcome = indexed("certify", indexed.run, "--max-breakpoints", 2000, "--edges", 3)
    assert outcome.exit_code == 0, outcome.said
    walk = certificate_of(indexed)["walk"]
    assert (walk["num_edges"], walk["num_walked"], walk["complete"]) == (10, 3, False)
    assert walk["share_walked"] == pytest.approx(0.3)
    assert certificate_of(indexed) == before | {"walk": walk}
    assert "active units, mean gap" in outcome.printed
    assert "The smallest margin of the target's class" in outcome.printed
    assert "Walks along the edges" in (indexed.run / "report.html").read_text()
    # Measured again, the same vertices keep what was found.
    assert indexed("evaluate", indexed.run).exit_code == 0
    assert certificate_of(indexed) == before | {"walk": walk}


def test_other_images_come_from_where_one_says(world, write_images):
    world.collide("--pixels")
    assert certificate_of(world)["others"] is None
    outcome = world("certify", world.run, "--edges", 0)
    assert outcome.exit_code == 0, outcome.said
    assert "no store to take other images from" in outcome.said
    assert certificate_of(world)["others"] is None
    images = write_images("others", num=5)
    (images / "class-0" / "broken.png").write_bytes(b"no picture")
    world("certify", world.run, "--images", images, "--null-pairs", 5, "--edges", 0)
    others = certificate_of(world)["others"]
    assert (others["num_images"], others["num_pairs"]) == (4, 5)
    world.index(images)
    world("certify", world.run, "--images", world.store, "--edges", 0)
    assert certificate_of(world)["others"]["num_images"] == 5


def test_a_certificate_of_other_vertices_is_refused(world):
    world.collide("--pixels")
    (world.run / "vertex-1.png").write_bytes((world.run / "target.png").read_bytes())
    outcome = world("certify", world.run)
    assert_refused(outcome, 2, "not measured on the vertices", "patchcollide evaluate")
    assert_refused(world("certify", world.folder / "none"), 2, "is not a run")
    assert world("certify", world.run, "--edges", "some").exit_code == 2


def test_runs_are_compared_side_by_side(indexed, tmp_path):
    indexed.collide()
    pixels = tmp_path / "free"
    pair = ["--source", indexed.source, "--target", indexed.target]
    assert indexed("collide", *pair, "--pixels", "--out", pixels).exit_code == 0
    out = tmp_path / "table.md"
    outcome = indexed("compare", pixels, indexed.run, "--out", out)
    assert outcome.exit_code == 0, outcome.said
    assert outcome.printed.strip() == out.read_text().strip()
    kinds = re.findall(r"^\| (run|free) \| (patches|pixels) \|", out.read_text(), re.MULTILINE)
    assert kinds == 3 * [("run", "patches"), ("free", "pixels")]
    assert_refused(indexed("compare", indexed.run, tmp_path), 2, "is not a run")


def test_a_report_is_drawn_again(indexed):
    indexed.collide()
    page = (indexed.run / "report.html").read_bytes()
    (indexed.run / "report.html").unlink()
    assert indexed("report", indexed.run).exit_code == 0
    assert (indexed.run / "report.html").read_bytes() == page


@pytest.mark.parametrize("engine", ["ann", "exact"])
def test_neighbours_and_their_contact_sheet_are_written(engine, indexed):
    out = indexed.folder / "found" / "n.h5"
    outcome = indexed(
        "retrieve", indexed.source, "--store", indexed.store, "--out", out, "--engine", engine
    )
    assert outcome.exit_code == 0, outcome.said
    assert out.exists()
    assert out.with_suffix(".png").exists()


def test_quiet_says_nothing_and_verbose_more(indexed):
    assert indexed.collide("--quiet").said == ""
    indexed.run.rename(indexed.folder / "moved")
    assert "step 3:" in indexed.collide("-v").said


def assert_refused(outcome, exit_code, *parts):
    assert outcome.exit_code == exit_code, outcome.said
    assert "Traceback" not in outcome.said
    for part in parts:
        assert part in outcome.said


def test_a_folder_without_images_is_refused(world, tmp_path):
    (tmp_path / "empty").mkdir()
    before = world.files()
    assert_refused(world.index(tmp_path / "empty"), 2, "ImageError", "empty", "Check the path")
    assert_refused(world.index(tmp_path / "nowhere"), 2, "ImageError", "nowhere", "does not exist")
    assert world.files() == before


def test_a_folder_of_unreadable_images_is_refused(world, tmp_path):
    for number in range(3):
        path = tmp_path / "bad" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_text("<html>404</html>")
    before = world.files()
    assert_refused(world.index(tmp_path / "bad"), 2, "None of the 3 images", "0.jpg")
    assert world.files() == before


def test_unreadable_images_are_counted_and_skipped(world, write_images):
    images = write_images()
    (images / "class-0" / "broken.png").write_bytes(b"")
    outcome = world.index(images)
    assert outcome.exit_code == 0
    assert "7 images, 1 of them unreadable" in outcome.said
    assert "broken.png" in outcome.said


def test_a_store_of_another_geometry_is_refused(indexed):
    outcome = indexed.collide("--set", "patches.stride_px=8")
    assert_refused(outcome, 2, "StoreError", "stride=4", "stride=8", "index the images again")
    assert not list(indexed.folder.glob("run*"))


def test_a_store_of_another_version_is_refused(indexed):
    manifest = indexed.store / "manifest.json"
    write_json(manifest, {**json.loads(manifest.read_text()), "encoding-version": "9"})
    outcome = indexed.collide()
    assert_refused(outcome, 2, "StoreError", "version 2", "version 9", "Index the images again")


def test_a_folder_that_is_no_store_is_refused(world):
    assert_refused(world.collide(), 2, "StoreError", "not a patch store", "patchcollide index")


def test_an_index_that_does_not_belong_to_the_store_is_refused(indexed, write_images):
    own, indexed.store = indexed.store, indexed.folder / "other"
    indexed.index(write_images("others", seed=3))
    for name in ("index.faiss", "index.json", "basis.h5"):
        (indexed.store / name).replace(own / name)
    indexed.store = own
    outcome = indexed.collide()
    assert_refused(outcome, 2, "IndexMismatchError", "another store", "patchcollide index")


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        ("bn2.akt", ["no layer", "bn2.act"]),
        ("conv_head", ["conv_head", "no region where it is exactly constant", "bn2.act"]),
    ],
)
def test_layers_that_cannot_be_used_are_refused_with_the_names_that_can(layer, parts, tmp_path):
    world = World(tmp_path)
    outcome = world.collide("--pixels", "--network", "efficientnet_lite0", "--layer", layer)
    assert_refused(outcome, 2, "NetworkError", *parts)
    assert not list(tmp_path.glob("run*"))


def test_an_unknown_network_is_refused(tmp_path):
    outcome = World(tmp_path).collide("--pixels", "--network", "vgg61")
    assert_refused(outcome, 2, "NetworkError", "vgg61", "did you mean vgg16")


def test_a_target_of_low_confidence_is_warned_of_with_its_probability(world):
    outcome = world.collide("--pixels", "--set", "network.min_confidence=1.0")
    assert outcome.exit_code == 0
    probability = json.loads((world.run / "summary.json").read_text())["target_probability"]
    assert "warning: the target is not classified confidently" in outcome.said
    assert f"{probability:.3f}, below network.min_confidence = 1" in outcome.said


def test_a_source_that_is_the_target_is_refused_unless_wanted(world):
    world.target = world.source
    outcome = world.collide("--pixels")
    assert_refused(outcome, 2, "ImageError", "the same picture", "allow_same_image=true")
    assert not list(world.folder.glob("run*"))
    assert world.collide("--pixels", "--set", "allow_same_image=true").exit_code == 0


def test_more_neighbours_than_there_are_is_refused(indexed):
    outcome = indexed.collide("--set", "retrieval.k=100")
    assert_refused(outcome, 2, "RetrievalError", "retrieval.k = 100", "at most")
    assert not list(indexed.folder.glob("run*"))


def test_a_diverging_loss_is_reported_with_the_step(world):
    outcome = world.collide("--pixels", "--set", "objective.active=1e38")
    assert_refused(outcome, 1, "DivergedError", "The loss is inf at step 0", "learning_rate")
    assert not list(world.folder.glob("run*"))


def test_a_folder_with_another_run_is_refused(world):
    world.collide("--pixels")
    before = world.files()
    outcome = world.collide("--pixels", "--seed", 1)
    assert_refused(outcome, 2, "RunError", "seed: found 0, expected 1", "another --out")
    assert world.files() == before


def test_a_folder_with_other_files_is_refused(world):
    world.run.mkdir()
    (world.run / "thesis.tex").write_text("years of work")
    assert_refused(world.collide("--pixels"), 2, "RunError", "is not this run", "another --out")
    assert (world.run / "thesis.tex").read_text() == "years of work"


def test_what_was_begun_with_other_settings_is_refused(world, monkeypatch):
    def stop(*_: object) -> None:
        raise InterruptedWorkError("Stopped after 3 of 6 steps.")

    with monkeypatch.context() as patched:
        patched.setattr(collisions, "optimise_run", stop)
        assert_refused(world.collide("--pixels"), 1, "Stopped after 3 of 6 steps")
    before = world.files()
    outcome = world.collide("--pixels", "--seed", 1)
    assert_refused(outcome, 2, "RunError", "seed: found 0, expected 1", "run.partial")
    assert world.files() == before
    assert world.collide("--pixels").exit_code == 0


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("retrieval.k=200", "retrieval.k=2"),
        ("composition.coefficient_size=9", "composition.coefficient_size=4"),
        ("objective.active=1e38", "objective.active=1"),
    ],
)
def test_a_refused_command_leaves_nothing_in_the_way_of_the_corrected_one(wrong, right, indexed):
    before = indexed.files()
    assert indexed.collide("--set", wrong).exit_code in (1, 2)
    assert indexed.files() == before
    assert indexed.collide("--set", right).exit_code == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--set", "retrieval.kk=3"], "did you mean retrieval.k?"),
        (["--engine", "fast"], "retrieval.engine"),
        (["--config", "nowhere.toml"], "nowhere.toml is missing"),
        (["--source", "nowhere.png"], "nowhere.png"),
        (["--set", "composition.coefficient_size=9"], "composition.coefficient_size = 9"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(words, part, indexed):
    outcome = indexed.collide(*words)
    assert_refused(outcome, 2, part)
    assert not indexed.run.exists()


@pytest.mark.parametrize("both", [True, False])
def test_a_store_and_free_pixels_exclude_each_other(both, world):
    space = ["--pixels", "--store", world.store] if both else []
    words = ["collide", "--source", "a", "--target", "b", "--out", "c", *map(str, space)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "one of --store STORE, --neighbours" in " ".join(result.stderr.replace("│", "").split())


def test_a_run_that_is_not_there_is_refused(world):
    assert_refused(world("evaluate", world.run), 2, "RunError", "is not a run", "collide")
    assert_refused(world("report", world.run), 2, "RunError", "is not a run")


def test_a_defect_is_named_as_one_without_a_traceback(world, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(collisions, "load_network", fail)
    outcome = world.collide("--pixels")
    assert_refused(outcome, 1, "Unexpected ZeroDivisionError", "--debug")


@pytest.mark.parametrize("place", ["picture.png/x", "/proc/x", "/"])
def test_an_output_that_cannot_be_made_is_refused_before_any_work(place, indexed):
    (indexed.folder / "picture.png").touch()
    indexed.run = indexed.folder / place
    outcome = indexed.collide()
    assert_refused(outcome, 2, "InputError", "--out", "Choose a")
    assert "source:" not in outcome.said


def test_an_output_may_be_a_link_to_an_empty_folder(indexed):
    (indexed.folder / "real").mkdir()
    indexed.run.symlink_to(indexed.folder / "real")
    assert indexed.collide().exit_code == 0
    assert {path.name for path in (indexed.folder / "real").iterdir()} == ARTEFACTS


def test_files_of_others_beside_the_output_are_kept(world, write_images):
    for partial in (world.folder / "run.partial", world.folder / "store.partial"):
        partial.mkdir()
        (partial / "thesis.tex").write_text("years of work")
    for outcome in (world.collide("--pixels"), world.index(write_images())):
        assert_refused(outcome, 2, ".partial", "Move that away")
    assert len(list(world.folder.rglob("thesis.tex"))) == 2


@pytest.mark.parametrize("name", ["source.png", "source.h5"])
def test_retrieval_never_writes_over_a_picture(name, indexed):
    picture = indexed.source.read_bytes()
    out = indexed.folder / name
    outcome = indexed("retrieve", indexed.source, "--store", indexed.store, "--out", out)
    assert_refused(outcome, 2, "RunError", "source.png is there already", "another --out")
    assert indexed.source.read_bytes() == picture


@pytest.mark.parametrize("name", ["vertex-2.png", "history.csv", "vertices.h5", "summary.json"])
def test_a_run_that_lost_a_file_is_not_taken_for_whole(name, world):
    world.collide("--pixels")
    (world.run / name).unlink()
    assert_refused(world.collide("--pixels"), 2, "RunError", "no longer whole", name)


@pytest.mark.parametrize(
    ("name", "content", "command", "parts"),
    [
        ("vertex-2.png", None, "evaluate", ["vertex-2.png is missing"]),
        ("vertex-2.png", b"x", "evaluate", ["vertex-2.png"]),
        ("history.csv", None, "report", ["history.csv is missing"]),
        ("history.csv", b"step\nabc\n", "report", ["history.csv is damaged"]),
        ("summary.json", b"{}", "report", ["summary.json is damaged", "patchcollide evaluate"]),
        ("summary.json", b"{", "report", ["summary.json"]),
        ("config.json", b"{}", "report", ["config.json", "version"]),
    ],
)
def test_damaged_runs_are_refused_in_a_sentence(name, content, command, parts, world):
    world.collide("--pixels")
    path = world.run / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert_refused(world(command, world.run), 2, *parts)


def test_a_damaged_summary_is_measured_again(world):
    world.collide("--pixels")
    path = world.run / "summary.json"
    before = json.loads(path.read_text())
    path.write_text("{")
    outcome = world("evaluate", world.run)
    assert outcome.exit_code == 0
    assert "is lost" in outcome.said
    assert json.loads(path.read_text())["success_rate"] == before["success_rate"]


def test_an_index_of_other_settings_is_refused(indexed):
    outcome = indexed.collide("--set", "index.components=8")
    assert_refused(outcome, 2, "IndexMismatchError", "components = 16", "settings have 8")


def test_a_store_cut_in_another_way_is_refused(indexed):
    outcome = indexed.collide("--set", "images.fit=squash")
    assert_refused(outcome, 2, "StoreError", "images.fit = crop", "have squash")


def test_a_network_that_gives_no_number_is_refused(world, small_network):
    with torch.no_grad():
        small_network.module.classifier.bias.fill_(float("nan"))
    outcome = world.collide("--pixels")
    assert_refused(outcome, 2, "NetworkError", "a probability of nan")
    assert not list(world.folder.glob("run*"))


# The signal comes when the first checkpoint is there, however fast or slow the machine is.
INTERRUPTED = """
import os, signal
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.cli import main
save = Checkpoint.save
def save_and_be_interrupted(*state):
    save(*state)
    Checkpoint.save = save
    os.kill(os.getpid(), signal.SIGINT)
Checkpoint.save = save_and_be_interrupted
main()
"""


def test_interrupted_work_stops_at_a_checkpoint_and_goes_on(tmp_path):
    world = World(tmp_path)
    words = ["collide", "--pixels", "--source", world.source, "--target", world.target]
    words += ["--out", world.run, *SETTINGS]
    for setting in ("name=lenet5", "weights=random", "layer=fc1", "min_confidence=0"):
        words += ["--set", f"network.{setting}"]
    words = [str(word) for word in words]
    process = [sys.executable, "-c", INTERRUPTED, *words]
    stopped = subprocess.run(process, capture_output=True, text=True)
    assert stopped.returncode == 1, stopped.stderr
    assert "InterruptedWorkError" in stopped.stderr
    assert "Run the same command again to go on" in stopped.stderr
    assert (world.folder / "run.partial" / "checkpoint.h5").exists()
    assert not world.run.exists()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert "Going on with what was begun" in " ".join(done.stderr.split())
    assert json.loads((world.run / "summary.json").read_text())["steps"] == 6


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(tmp_path, write_images):
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from patchcollide.cli import main\n"
        "main()\n"
    )
    words = ["index", str(write_images(num=20)), *SETTINGS, "--out", str(tmp_path / "store")]
    full = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert full.returncode == 1, full.stderr
    assert "DiskFullError: No room to write" in full.stderr
    assert "run the same command again" in full.stderr
    assert not (tmp_path / "store").exists()
    assert not list((tmp_path / "store.partial").iterdir())
    assert CliRunner().invoke(app, words).exit_code == 0
