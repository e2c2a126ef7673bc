"""What lies where a command writes: other runs, other files, and damaged ones."""

import json

import pytest

from patchcollide.errors import InterruptedWorkError
from patchcollide.runs import collide
from tests.helpers.commands import ARTEFACTS, assert_refused


def test_a_folder_with_another_run_is_refused(finished):
    before = finished.files()
    outcome = finished.collide("--pixels", "--seed", 1)
    assert_refused(outcome, 2, "RunError", "seed: found 0, expected 1", "another --out")
    assert finished.files() == before


def test_a_folder_with_other_files_is_refused(world):
    world.run.mkdir()
    (world.run / "thesis.tex").write_text("years of work")
    assert_refused(world.collide("--pixels"), 2, "RunError", "is not this run", "another --out")
    assert (world.run / "thesis.tex").read_text() == "years of work"


def test_what_was_begun_with_other_settings_is_refused(world, monkeypatch):
    def stop(*_: object) -> None:
        raise InterruptedWorkError("Stopped after 3 of 6 steps.")

    with monkeypatch.context() as patched:
        patched.setattr(collide, "optimise_run", stop)
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
    weighted = ("--set", "objective.tightness=0")
    assert indexed.collide(*weighted, "--set", wrong).exit_code in (1, 2)
    assert indexed.files() == before
    assert indexed.collide(*weighted, "--set", right).exit_code == 0


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
def test_a_run_that_lost_a_file_is_not_taken_for_whole(name, finished):
    (finished.run / name).unlink()
    assert_refused(finished.collide("--pixels"), 2, "RunError", "no longer whole", name)


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
def test_damaged_runs_are_refused_in_a_sentence(name, content, command, parts, finished):
    path = finished.run / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert_refused(finished(command, finished.run), 2, *parts)


def test_a_damaged_summary_is_measured_again(finished):
    path = finished.run / "summary.json"
    before = json.loads(path.read_text())
    path.write_text("{")
    outcome = finished("evaluate", finished.run)
    assert outcome.exit_code == 0
    assert "is lost" in outcome.said
    assert json.loads(path.read_text())["success_rate"] == before["success_rate"]
