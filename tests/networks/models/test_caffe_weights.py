"""Caffe's VGG-16, against the same network written out in NumPy, channels last, in float64."""

import hashlib

import numpy as np
import pytest
import torch

from patchcollide.config import Network
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError, NetworkError
from patchcollide.networks.loading import load_network
from patchcollide.networks.models.caffe_weights import channels_first, read_caffe_weights
from patchcollide.networks.models.vgg16 import load_vgg16

WIDTH = 4
CONVOLUTIONS = ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
MEAN_LEVELS = (123.68, 116.779, 103.939)


def caffe_arrays(rng, width=WIDTH):
    """Random weights that neither fade nor explode."""
    arrays = {}
    before = 3
    for block, count in CONVOLUTIONS:
        for number in range(1, count + 1):
            units = width * min(2 ** (block - 1), 8)
            weight = rng.normal(0, (2 / (9 * before)) ** 0.5, (3, 3, before, units))
            arrays[f"conv{block}_{number}_W"] = weight
            arrays[f"conv{block}_{number}_b"] = rng.normal(0, 1, units)
            before = units
    before *= 49
    for name, units in (("fc6", 64 * width), ("fc7", 64 * width), ("fc8", 1000)):
        arrays[f"{name}_W"] = rng.normal(0, (2 / before) ** 0.5, (before, units))
        arrays[f"{name}_b"] = rng.normal(0, 1, units)
        before = units
    # Grey levels are in the hundreds; the classes should not be certain.
    arrays["conv1_1_W"] /= 100
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def caffe_forward(arrays, levels):
    """The network on one picture of 0..255; returns what goes into fc6's ReLU, and the chances."""
    weights = {name: array.astype(np.float64) for name, array in arrays.items()}
    values = levels.astype(np.float64) - np.array(MEAN_LEVELS)
    for block, count in CONVOLUTIONS:
        for number in range(1, count + 1):
            weight = weights[f"conv{block}_{number}_W"]
            height, width, _ = values.shape
            padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
            result = (
                np.zeros((height, width, weight.shape[-1])) + weights[f"conv{block}_{number}_b"]
            )
            for row in range(3):
                for column in range(3):
                    window = padded[row : row + height, column : column + width]
                    result += np.einsum("hwi,io->hwo", window, weight[row, column])
            values = np.maximum(result, 0)
        height, width, channels = values.shape
        values = values.reshape(height // 2, 2, width // 2, 2, channels).max(axis=(1, 3))
    fc6 = values.reshape(-1) @ weights["fc6_W"] + weights["fc6_b"]
    fc7 = np.maximum(fc6, 0) @ weights["fc7_W"] + weights["fc7_b"]
    logits = np.maximum(fc7, 0) @ weights["fc8_W"] + weights["fc8_b"]
    chances = np.exp(logits - logits.max())
    return fc6, chances / chances.sum()


@pytest.fixture(scope="module")
def arrays():
    return caffe_arrays(np.random.default_rng(3))


@pytest.fixture
def saved(arrays, tmp_path):
    """Saves the weights with some arrays changed; None leaves one out."""

    def save(**changed):
        kept = {k: v for k, v in (arrays | changed).items() if v is not None}
        np.savez(tmp_path / "vgg16_weights.npz", **kept)
        return tmp_path / "vgg16_weights.npz"

    return save


def outputs(network, levels):
    images = torch.from_numpy(levels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        output = network(images.double())
    return output.pre_activation[0].numpy(), output.logits[0].double().softmax(dim=0).numpy()


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_network_is_caffes(kind, tolerance, arrays, saved, rng):
    levels = rng.integers(0, 256, (224, 224, 3)).astype(np.float64)
    network = load_vgg16(weights=str(saved()), width=WIDTH)
    network.module.to(kind)
    fc6, chances = outputs(network, levels)
    expected_fc6, expected_chances = caffe_forward(arrays, levels)
    scale = np.abs(expected_fc6).max()
    assert (expected_fc6 < 0).mean() > 0.1
    assert expected_chances.max() < 0.9999
    np.testing.assert_allclose(fc6, expected_fc6, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(chances, expected_chances, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize(("side", "channels", "units"), [(1, 1, 1), (2, 3, 5), (7, 2, 4)])
def test_rows_are_rearranged_to_channel_height_width(side, channels, units, rng):
    weight = rng.normal(size=(side * side * channels, units))
    values = rng.normal(size=(side, side, channels))
    turned = channels_first(weight, side)
    expected = values.reshape(-1) @ weight
    np.testing.assert_allclose(turned @ values.transpose(2, 0, 1).reshape(-1), expected)


def test_float64_weights_become_float32(arrays, saved):
    double = {name: array.astype(np.float64) for name, array in arrays.items()}
    expected, found = read_caffe_weights(saved()), read_caffe_weights(saved(**double))
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_missing_arrays_are_named(saved):
    with pytest.raises(NetworkError, match=r"lacks conv3_2_b, fc8_W\. Expected are conv1_1_W to"):
        read_caffe_weights(saved(conv3_2_b=None, fc8_W=None))


def test_weights_of_another_network_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", w1=np.zeros(3), w2=np.zeros(3))
    with pytest.raises(NetworkError, match=r"lacks conv1_1_W, .* and 28 more\. Expected"):
        read_caffe_weights(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv1_1_W", (3, 3, 1, 4), r"conv1_1_W has shape \(3, 3, 1, 4\).*takes in 3 channels"),
        ("conv2_1_W", (4, 3, 3, 8), r"conv2_1_W has shape \(4, 3, 3, 8\) and conv2_1_b \(8,\)"),
        ("conv4_2_b", (31,), r"conv4_2_W .* and conv4_2_b \(31,\), where conv4_2 takes in 32 ch"),
        ("fc6_W", (32 * 49, 257), r"fc6_W .* where fc6 takes in 1568 values"),
        ("fc7_b", (256, 1), r"fc7_b \(256, 1\)"),
        ("fc8_W", (256, 10), r"fc8_W has shape \(256, 10\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, shape, message, saved):
    with pytest.raises(NetworkError, match=message):
        read_caffe_weights(saved(**{name: np.zeros(shape, np.float32)}))


def test_no_layer_may_be_wider_than_vgg16s(saved):
    wide = {"conv1_1_W": np.zeros((3, 3, 3, 513)), "conv1_1_b": np.zeros(513)}
    with pytest.raises(NetworkError, match=r"does not fit VGG-16: conv1_1_W .* 513"):
        read_caffe_weights(saved(**wide))


def test_weights_of_another_width_are_refused(saved):
    with pytest.raises(NetworkError, match=r"does not fit VGG: of another shape: features\.0"):
        load_vgg16(weights=str(saved()), width=2)


def test_whole_numbers_and_objects_are_refused(saved):
    with pytest.raises(NetworkError, match=r"'fc7_b' should hold floating-point .* int64"):
        read_caffe_weights(saved(fc7_b=np.zeros(256, np.int64)))
    with pytest.raises(NetworkError, match="refused: 'fc7_b' holds Python objects"):
        read_caffe_weights(saved(fc7_b=np.array([{}] * 256, dtype=object)))


def test_only_vgg16_reads_caffes_weights(saved):
    with pytest.raises(NetworkError, match=r"is NumPy.s \.npz, which is read for vgg16 alone"):
        load_network(Network(weights=str(saved())))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved_as(suffix, saved, tmp_path):
    if suffix == ".npz":
        return saved()
    path = tmp_path / f"weights{suffix}"
    torch.save(load_vgg16(weights="random", width=WIDTH).module.state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_weights_must_have_the_sha256_that_is_given(suffix, saved, tmp_path):
    path = saved_as(suffix, saved, tmp_path)
    right, wrong = sha256(path), "0" * 64
    for spelling in (right, right.upper(), ""):
        load_vgg16(weights=str(path), width=WIDTH, sha256=spelling)
    message = rf"{path.name} has the SHA-256 {right}, but expected is {wrong}\. Remove it"
    with pytest.raises(NetworkError, match=message):
        load_vgg16(weights=str(path), width=WIDTH, sha256=wrong)


def test_the_weights_that_come_as_a_package_have_a_sha256_too():
    with pytest.raises(NetworkError, match=rf"has the SHA-256 .*expected is {'1' * 64}\."):
        load_network(Network(sha256="1" * 64))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg16"])
def test_random_weights_have_no_sha256(name):
    with pytest.raises(NetworkError, match="'random' reads no file"):
        load_network(Network(name=name, weights="random", sha256="1" * 64))


def test_a_sha256_is_64_hexadecimal_digits():
    assert load_config(overrides=[f"network.sha256={'a1' * 32}"]).network.sha256 == "a1" * 32
    for text in ("abc", "g" * 64, "0" * 65):
        with pytest.raises(ConfigError, match=r"network\.sha256 = .*should match pattern"):
            load_config(overrides=[f'network.sha256="{text}"'])


def test_a_damaged_download_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of it")
    message = rf"has the SHA-256 {sha256(path)}, but expected is 397923af\.\.\.\. Remove it"
    with pytest.raises(NetworkError, match=message):
        load_network(Network(name="vgg16"))
