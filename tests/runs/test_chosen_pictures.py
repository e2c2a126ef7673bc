"""Source and target may be images of a store, or a part of a picture, and are known as such."""

import json
import logging
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError, ImageError
from patchcollide.images.pictures import read_png, write_png
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.runs.folder import open_run
from patchcollide.runs.pictures import Crop, Crops, choose_picture
from patchcollide.runs.replay import replay
from patchcollide.store.writer import write_store
from tests.conftest import SMALL

SETTINGS = [
    "network.name=lenet5",
    "network.weights=random",
    "network.layer=fc1",
    *SMALL,
    "optimiser.num_vertices=2",
    "retrieval.engine=exact",
    "images.size_px=28",
    "network.min_confidence=0",
]
CONFIG = load_config(overrides=SETTINGS)
WORDS = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture
def store(write_images, tmp_path):
    folder = write_images()
    (folder / "class-1" / "bad.png").write_text("no picture")
    shutil.copy(folder / "class-0" / "2.png", folder / "class-0" / "2.jpeg")
    shutil.copy(folder / "class-0" / "4.png", folder / "class-0" / "4.v2.png")
    return write_store(CONFIG, folder, tmp_path / "store")


@pytest.fixture
def banner(tmp_path):
    """A picture three times as wide as high."""
    pixels = np.random.default_rng(5).integers(0, 256, (10, 30, 3), dtype=np.uint8)
    path = tmp_path / "banner.png"
    write_png(path, pixels.repeat(4, axis=0).repeat(4, axis=1))
    return path


@pytest.mark.parametrize("name", ["class-1/3.png", "class-1/3"])
def test_an_image_of_the_store_is_found_by_its_name(name, store, tmp_path):
    found = choose_picture(CONFIG, Path(f"imagenet:{name}"), store)
    assert str(found.path) == "imagenet:class-1/3.png"
    assert np.array_equal(
        np.asarray(found.picture), store.image(store.names.index("class-1/3.png"))
    )
    dotted = choose_picture(CONFIG, Path("imagenet:class-0/4"), store)
    assert str(dotted.path) == "imagenet:class-0/4.png"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("class-1/4", r"no image class-1/4 among the 9 of .*store, but such as class-1/\d\.png"),
        ("class-7/4", r"no image class-7/4 among the 9 of .* but such as .*CLASS/NAME"),
        ("class-0/2", r"may be class-0/2\.jpeg or class-0/2\.png in .*Give its suffix too"),
        ("class-1/bad", r"imagenet:class-1/bad could not be read when .*store was made"),
    ],
)
def test_names_that_are_none_are_told_with_what_is_like_them(name, told, store, tmp_path):
    with pytest.raises(ImageError, match=told):
        choose_picture(CONFIG, Path(f"imagenet:{name}"), store)


def test_without_a_store_there_are_no_images_of_one(banner, tmp_path):
    words = ["collide", "--source", "imagenet:a/b", "--target", str(banner), "--pixels"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run"), *WORDS])
    assert result.exit_code == 2
    assert "imagenet:a/b is an image of a store, but none is given" in " ".join(
        result.stderr.split()
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "1,2", "1,2,0", "-1,0,5", "1,2,3,4", "a,b,c", "1.5,0,3"])
def test_a_crop_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match=r"Expected a crop as x,y,side in pixels.*Correct --crop"):
        Crop.parse(text)


def test_a_crop_is_the_part_that_it_names(banner):
    whole = read_png(banner)
    found = choose_picture(CONFIG, banner, None, Crop.parse("8, 4,20"))
    assert np.array_equal(np.asarray(found.picture), whole[4:24, 8:28])
    with pytest.raises(ImageError, match=r"reaches column 121 and row 41, but .* has 120 x 40 pix"):
        choose_picture(CONFIG, banner, None, Crop.parse("100,20,21"))


def test_a_run_of_images_of_the_store_is_known_and_made_again(store, tmp_path):
    words = ["collide", "--store", str(store.path), "--source", "imagenet:class-0/0"]
    words += ["--target", "imagenet:class-1/1", "--out", str(tmp_path / "run"), *WORDS]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    run = open_run(tmp_path / "run")
    assert run.inputs["source"] == "imagenet:class-0/0.png"
    assert "source_crop" not in run.inputs
    # Neither lends its own patches.
    lent = set(Neighbours.load(tmp_path / "run" / "neighbours.h5").image_names.values())
    assert not lent & {"class-0/0.png", "class-1/1.png"}
    found = replay(tmp_path / "run")
    assert found.identical
    assert not found.notes


def test_a_run_of_parts_is_known_and_made_again(banner, store, tmp_path):
    target = tmp_path / "images" / "class-0" / "0.png"
    parts = Crops(Crop(60, 4, 30), Crop(2, 3, 28))
    run = pipeline.collide(CONFIG, banner, target, tmp_path / "run", store.path, crops=parts)
    recorded = json.loads((run / "config.json").read_text())["inputs"]
    assert (recorded["source_crop"], recorded["target_crop"]) == ("60,4,30", "2,3,28")
    assert replay(run).identical
    again = shlex.split(recorded["command"])
    assert again[again.index("--crop") + 1] == "60,4,30"
    assert again[again.index("--target-crop") + 1] == "2,3,28"
    # The recorded command is known to have been done.
    before = (run / "config.json").stat()
    assert CliRunner().invoke(app, again[1:]).exit_code == 0
    assert (run / "config.json").stat() == before


def test_features_have_no_parts(banner, tmp_path):
    features = tmp_path / "a.npz"
    features.touch()
    with pytest.raises(ImageError, match=r"a\.npz holds features, which have no parts"):
        pipeline.collide(
            CONFIG, banner, features, tmp_path / "run", crops=Crops(target=Crop(0, 0, 8))
        )


def test_neighbours_of_a_part_and_of_an_image_of_the_store_are_found(banner, store, tmp_path):
    words = ["retrieve", str(banner), "--store", str(store.path), "--out", str(tmp_path / "a.h5")]
    assert CliRunner().invoke(app, [*words, "--crop", "60,4,30", *WORDS]).exit_code == 0
    part = tmp_path / "part.png"
    write_png(part, read_png(banner)[4:34, 60:90])
    pipeline.retrieve(CONFIG, [part], store.path, tmp_path / "b.h5")
    ours, theirs = (Neighbours.load(tmp_path / f"{name}.h5") for name in "ab")
    assert (ours.ids == theirs.ids).all()
    words = ["retrieve", "imagenet:class-0/0", str(banner), "--store", str(store.path), *WORDS]
    assert CliRunner().invoke(app, [*words, "--out", str(tmp_path / "both")]).exit_code == 0
    assert {path.name for path in (tmp_path / "both").glob("*.h5")} == {"0.h5", "banner.h5"}
    words += ["--out", str(tmp_path / "c"), "--crop", "0,0,9"]
    assert CliRunner().invoke(app, words).exit_code == 2


def test_a_centre_crop_that_cuts_most_of_a_picture_is_told_with_the_share(
    banner, store, tmp_path, caplog
):
    said = (
        rf"the crop of the centre keeps 33 % of the source {banner}, which has 120 x 40 pixels. "
        "Choose what is kept with --crop x,y,side"
    )
    with caplog.at_level(logging.WARNING, "patchcollide"):
        pipeline.retrieve(CONFIG, [banner], store.path, tmp_path / "a.h5")
        assert said in caplog.text
        caplog.clear()
        pipeline.retrieve(CONFIG, [banner], store.path, tmp_path / "b.h5", crop=Crop(0, 0, 40))
        pipeline.retrieve(
            CONFIG, [tmp_path / "images" / "class-0" / "0.png"], store.path, tmp_path / "c.h5"
        )
        assert "crop of the centre" not in caplog.text
        pipeline.collide(CONFIG, banner, tmp_path / "images" / "class-0" / "0.png", tmp_path / "r")
        assert said in caplog.text
