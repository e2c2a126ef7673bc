from pathlib import Path

import numpy as np
import pytest
import torch

from patchcollide.evaluation.dataset import DatasetImages
from patchcollide.evaluation.known_changes import (
    known_changes,
    measure_known_changes,
    median_distance,
    noise_floor,
)
from patchcollide.images.pictures import read_png
from patchcollide.images.tensors import as_batch
from patchcollide.networks.targets import Target


@pytest.fixture
def target(small_network, rng):
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Target.of_picture(small_network, coarse.repeat(4, axis=0).repeat(4, axis=1))


def tau(network, pictures, target):
    with torch.no_grad():
        features = network(as_batch(np.stack(pictures))).pre_activation.relu().double()
    own = target.pre_activation.relu().double()
    return ((features - own).norm(dim=1) / own.norm()).tolist()


@pytest.mark.parametrize(("side", "px", "margin"), [(224, 4, 11), (28, 1, 1), (2, 1, 0), (1, 1, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_changes_are_those_that_their_names_say(side, px, margin, channels, rng):
    picture = rng.integers(0, 256, (side, side, channels), dtype=np.uint8)
    changed = known_changes(picture)
    assert [*changed] == [
        f"target moved by {px} px",
        "target cropped by 10 %",
        "target as JPEG, quality 30",
        "target mirrored",
    ]
    moved, cropped, jpeg, mirrored = changed.values()
    assert all(image.shape == picture.shape for image in changed.values())
    assert all(image.dtype == np.uint8 for image in changed.values())
    assert np.array_equal(moved[:, px:], picture[:, :-px])
    assert (moved[:, :px] == picture[:, :1]).all()
    assert np.array_equal(mirrored, np.flip(picture, axis=1))
    inside = picture[margin : side - margin, margin : side - margin].astype(float)
    assert abs(cropped.mean() - inside.mean()) <= 0.05 * 255
    assert abs(jpeg.mean() - picture.astype(float).mean()) <= 0.1 * 255


def test_a_yardstick_is_what_the_network_says_of_each_change(small_network, target):
    changed = known_changes(target.picture)
    expected = tau(small_network, list(changed.values()), target)
    found = measure_known_changes(small_network, target)
    assert [*found] == [*changed]
    assert [*found.values()] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_other_images_of_a_class_stand_as_their_median(small_network, target, count, rng):
    others = list(rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
    found = median_distance(small_network, target, others)
    assert found == pytest.approx(np.median(tau(small_network, others, target)), rel=1e-4)


def test_features_alone_have_no_changes_and_no_floor(small_network, target):
    alone = Target.of_features(small_network, target.pre_activation)
    assert measure_known_changes(small_network, alone) == {}
    assert noise_floor(small_network, alone, seed=0) is None
    assert median_distance(small_network, alone, []) is None


def test_the_floor_is_what_rounding_does(small_network, target, rng):
    floor = noise_floor(small_network, target, seed=0)
    assert floor == noise_floor(small_network, target, seed=0)
    # Unrounded images whose rounding is the target: as far from it as the floor, roughly.
    noise = rng.uniform(-0.5, 0.5, (20, 32, 32, 3))
    loose = np.clip(target.picture + noise, 0, 255).astype(np.float32)
    distances = tau(small_network, list(loose), target)
    assert 0.8 * np.median(distances) < floor < 1.2 * max(distances)


def test_images_of_a_class_are_of_its_folder_and_not_the_image(
    small_network, small_store, small_config, write_images
):
    folder = write_images(size=32)
    image = folder / "class-1" / "3.png"
    expected = {read_png(folder / "class-1" / name).tobytes() for name in ("1.png", "5.png")}
    found = DatasetImages(folder, small_config, small_network).same_class(image, 9)
    assert {one.tobytes() for one in found} == expected
    assert len(DatasetImages(folder, small_config, small_network).same_class(image, 1)) == 1
    stored = DatasetImages(small_store, small_config, small_network).same_class(image, 9)
    names = ["class-1/1.png", "class-1/5.png"]
    numbers = [small_store.names.index(name) for name in names]
    assert {one.tobytes() for one in stored} == {small_store.image(n).tobytes() for n in numbers}


@pytest.mark.parametrize("name", ["image.png", "elsewhere/image.png", "empty/image.png"])
def test_an_image_of_no_known_class_has_no_others(
    small_network, small_store, small_config, write_images, name
):
    folder = write_images(size=32)
    (folder / "empty").mkdir()
    for place in (folder, small_store):
        images = DatasetImages(place, small_config, small_network)
        assert images.same_class(Path(name), 9) == []
