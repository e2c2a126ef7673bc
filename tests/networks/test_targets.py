"""Targets, and files with the features of one."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.errors import NetworkError, TargetError
from patchcollide.io.hdf5 import write_hdf5
from patchcollide.io.provenance import array_digest
from patchcollide.networks.feature_files import holds_features, read_features, write_features
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)


@pytest.fixture
def target(small_network, picture):
    return Target.of_picture(small_network, picture)


@pytest.fixture
def written(small_network, target, tmp_path):
    path = tmp_path / "features.h5"
    write_features(path, target.pre_activation, small_network, image="a.png", about={"seed": 3})
    return path


def released(path, values, name="featfc1", **more):
    np.savez(path, **{name: values, **more})
    return path


def test_a_pictures_target_is_what_the_network_makes_of_it(small_network, picture, target):
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    pre_activation, _ = small_network(batch)
    assert torch.equal(target.pre_activation, pre_activation[0])
    assert (target.class_index, target.class_name) == small_network.top(picture)[:2]
    assert target.probability == pytest.approx(small_network.top(picture)[2])
    assert (target.given_as, target.digest) == ("image", array_digest(picture))


def test_features_alone_make_the_same_target(small_network, target):
    given = Target.of_features(small_network, target.pre_activation, "a.png")
    assert given.picture is None
    assert (given.given_as, given.image) == ("features", "a.png")
    assert torch.equal(given.pre_activation, target.pre_activation)
    assert (given.class_index, given.class_name) == (target.class_index, target.class_name)
    assert given.probability == pytest.approx(target.probability, abs=1e-6)
    assert given.digest == array_digest(target.pre_activation.numpy())


def test_a_target_without_a_probability_is_refused(small_network, picture, target):
    with torch.no_grad():
        small_network.module.classifier.bias.fill_(float("nan"))
    with pytest.raises(NetworkError, match="small gives the target a probability of nan"):
        Target.of_picture(small_network, picture)
    with pytest.raises(NetworkError, match="small gives the target a probability of nan"):
        Target.of_features(small_network, target.pre_activation)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.npz", True), ("a.H5", True), ("a.png", False), ("npz", False), ("a.h5.jpg", False)],
)
def test_features_are_told_from_images_by_their_suffix(name, expected, tmp_path):
    assert holds_features(tmp_path / name) is expected


@pytest.mark.parametrize("shape", [(1, 384), (384,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_released_features_are_read(shape, dtype, small_network, target, tmp_path):
    values = target.pre_activation.numpy().astype(dtype).reshape(shape)
    others = {"featfc1_relu": np.maximum(values, 0), "featfc1_s": np.sign(values)}
    features = read_features(released(tmp_path / "f.npz", values, **others), small_network)
    assert torch.equal(features.pre_activation, target.pre_activation)
    assert features.image is None


def test_features_come_back_from_a_file(small_network, target, written):
    features = read_features(written, small_network)
    assert torch.equal(features.pre_activation, target.pre_activation)
    assert features.image == "a.png"
    with h5py.File(written) as file:
        assert file.attrs["encoding-type"] == "patchcollide-features"
        assert (file.attrs["network"], file.attrs["layer"]) == ("small", "act")
        assert (file.attrs["digest"], file.attrs["seed"]) == (small_network.digest, 3)


@pytest.mark.parametrize("shape", [(1, 383), (2, 384), (384, 1), (), (1, 4096)])
def test_features_of_another_length_are_refused(shape, small_network, tmp_path):
    path = released(tmp_path / "f.npz", np.zeros(shape, np.float32))
    with pytest.raises(TargetError, match=r"holds 'featfc1' of shape .* 'act' of small has 384 un"):
        read_features(path, small_network)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_features_that_are_not_finite_are_refused(bad, suffix, small_network, target, tmp_path):
    values = target.pre_activation.clone()
    values[[3, 7]] = bad
    path = tmp_path / f"f{suffix}"
    if suffix == ".npz":
        released(path, values.numpy())
    else:
        write_features(path, values, small_network, image=None, about={})
    with pytest.raises(TargetError, match=r"holds 2 values that are not finite, of 384\."):
        read_features(path, small_network)


def test_released_files_without_the_pre_activation_are_refused(small_network, tmp_path):
    path = released(tmp_path / "f.npz", np.zeros((1, 384), np.float32), name="featfc1_relu")
    with pytest.raises(TargetError, match=r"no array 'featfc1'\. Save .* of shape \(1, 384\)"):
        read_features(path, small_network)


def test_released_files_with_objects_are_refused(small_network, tmp_path):
    path = released(tmp_path / "f.npz", np.array([[{}] * 384], dtype=object))
    with pytest.raises(TargetError, match="refused: 'featfc1' holds Python objects"):
        read_features(path, small_network)


@pytest.mark.parametrize("name", ["f.npz", "f.h5"])
def test_missing_and_damaged_files_are_refused(name, small_network, tmp_path):
    with pytest.raises(TargetError, match=rf"{name} is missing"):
        read_features(tmp_path / name, small_network)
    (tmp_path / name).write_bytes(b"no features")
    with pytest.raises(TargetError, match=rf"{name} is (damaged or not an \.npz|not a readable)"):
        read_features(tmp_path / name, small_network)


def network_with(layer, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)
        )
    return CollisionNetwork(
        module, name="dense", layer=layer, input_size=4, mean=(0.5,) * 3, scale=(1.0,) * 3
    )


def test_features_of_another_layer_or_of_other_weights_are_refused(small_network, tmp_path):
    path = tmp_path / "f.h5"
    own, other = network_with("2", 0), network_with("2", 1)
    write_features(path, torch.zeros(6), own, image=None, about={})
    expected = rf"features of layer '2' of dense \(weights {own.digest[:12]}\), but the network"
    with pytest.raises(TargetError, match=rf"{expected} here is layer '4' of dense"):
        read_features(path, network_with("4", 0))
    with pytest.raises(TargetError, match=rf"{expected} .*weights {other.digest[:12]}\)\. Give"):
        read_features(path, other)
    with pytest.raises(TargetError, match=rf"{expected} here is layer 'act' of small"):
        read_features(path, small_network)


def test_other_hdf5_files_are_refused(small_network, written, tmp_path):
    path = tmp_path / "other.h5"
    write_hdf5(path, encoding="patchcollide-run", version="1", datasets={}, attributes={})
    with pytest.raises(TargetError, match="should be 'patchcollide-features' version 1, but is"):
        read_features(path, small_network)
    with h5py.File(written, "r+") as file:
        values = file["pre_activation"][:-1]
        del file["pre_activation"]
        file["pre_activation"] = values
    with pytest.raises(TargetError, match=r"should have shape \(384,\), but has \(383,\)"):
        read_features(written, small_network)


def test_links_out_of_the_file_are_not_followed(small_network, written, tmp_path):
    with h5py.File(written, "r+") as file:
        file.move("pre_activation", "kept")
        file["pre_activation"] = h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "x")
    with pytest.raises(TargetError, match="has no dataset 'pre_activation'"):
        read_features(written, small_network)
