import itertools
import json

import numpy as np
import pytest

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.errors import ImageError
from patchcollide.evaluation.dataset import DatasetImages
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.images.pictures import read_image
from patchcollide.images.tensors import to_channels
from patchcollide.networks.loading import load_network
from patchcollide.runs.certify import certify


@pytest.fixture
def mlp():
    return load_network(
        load_config(overrides=["network.name=mlp", "network.weights=random"]).network
    )


@pytest.mark.parametrize("num", [2, 3, 7])
def test_the_mean_distance_of_a_folder_is_that_of_its_pairs(write_images, mlp, num):
    config = load_config(overrides=["evaluation.dataset_pairs=4000"])
    folder = write_images(num=num)
    images = [
        read_image(path, size=28, fit="crop", max_pixels=10**6, channels=1).astype(float)
        for path in sorted(folder.rglob("*.png"))
    ]
    expected = np.mean([np.linalg.norm(a - b) for a, b in itertools.combinations(images, 2)])
    found = DatasetImages(folder, config, mlp).mean_distance()
    assert found == pytest.approx(expected, rel=1e-6 if num == 2 else 0.05)
    assert DatasetImages(folder, config, mlp).mean_distance() == found


def test_one_image_has_no_distance(write_images, mlp, small_config):
    assert DatasetImages(write_images(num=1), small_config, mlp).mean_distance() is None


def test_images_of_a_store_have_the_networks_channels(small_store, mlp, small_config):
    drawn = DatasetImages(small_store, small_config, mlp).draw(99)
    stored = [to_channels(small_store.image(number), 1) for number in range(6)]
    assert len(drawn) == 6
    assert all(np.array_equal(a, b) for a, b in zip(drawn, stored, strict=True))


def test_a_folder_that_is_not_there_is_named(tmp_path, mlp, small_config):
    with pytest.raises(ImageError, match="nowhere"):
        DatasetImages(tmp_path / "nowhere", small_config, mlp).draw()


def test_a_descent_over_digits_is_compared_with_a_folder(tmp_path):
    write_digits(tmp_path / "digits", read_digits(None, "test"), 30)
    first, second = sorted((tmp_path / "digits").rglob("*.png"))[:2]
    settings = ("steps=6", "check_every=3", "num_vertices=2", "validation_samples=4")
    overrides = [f"optimiser.{setting}" for setting in settings]
    overrides += ["network.name=mlp", "network.weights=random", "network.min_confidence=0"]
    overrides += ["evaluation.num_samples=20", "evaluation.dataset_pairs=20"]
    overrides += ["evaluation.check_samples=40", "evaluation.null_samples=40"]
    config, out = load_config(overrides=overrides), tmp_path / "run"
    pipeline.collide(config, first, second, out, images=tmp_path / "digits")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["parameterisation"] == "pixels"
    assert summary["dataset_distance_mean"] > 1000
    others = summary["certificate"]["others"]
    seen = summary["visibility"]["yardsticks"]
    assert seen["noise"]["ssim_mean"] < 1
    assert seen["brightness"]["coarse_rms"] == pytest.approx(40, abs=3)
    # The target is one of the folder's images.
    assert (others["num_images"], others["num_left_out"]) == (29, 1)
    inputs = json.loads((out / "config.json").read_text())["inputs"]
    assert "--images" in inputs["command"]
    # The pairs of its claims are of the same folder, while it is there.
    certify(out, num_pairs=12)
    others = json.loads((out / "summary.json").read_text())["certificate"]["others"]
    assert others["num_images"] + others["num_left_out"] == 6
    assert 0 < others["num_pairs"] <= 12
