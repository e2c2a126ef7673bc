"""Commands that cannot be followed are refused in a sentence."""

import json

import pytest
import torch
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.io.files import write_json
from patchcollide.runs import collide
from tests.helpers.commands import World, assert_refused


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


@pytest.mark.parametrize(("number", "warned"), [(6, True), (20, False)])
def test_a_store_of_few_images_is_warned_of_with_their_number(number, warned, world, write_images):
    assert world.index(write_images(num=number)).exit_code == 0
    outcome = world("retrieve", world.source, "--store", world.store, "--out", world.run)
    assert outcome.exit_code == 0, outcome.said
    assert (f"store holds {number} images" in outcome.said) == warned


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
    words = ("objective.tightness=0", "objective.active=1e38")
    outcome = world.collide("--pixels", *(part for word in words for part in ("--set", word)))
    assert_refused(outcome, 1, "DivergedError", "The loss is inf at step 0", "learning_rate")
    assert not list(world.folder.glob("run*"))


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

    monkeypatch.setattr(collide, "load_network", fail)
    outcome = world.collide("--pixels")
    assert_refused(outcome, 1, "Unexpected ZeroDivisionError", "--debug")


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
