import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.images.digits import Digits, read_digits
from patchcollide.networks.loading import load_network
from patchcollide.networks.models.digit_networks import ACTIVATIONS, build_digit_network
from patchcollide.networks.models.regularisers import HyperplaneCollinearity, hidden_layers
from patchcollide.networks.models.training import (
    TrainingOptions,
    measure_accuracy,
    train,
    train_digit_network,
)
from patchcollide.networks.models.weights import read_metadata


def few(split, count=200):
    digits = read_digits(None, split)
    return Digits(digits.images[:count], digits.labels[:count], digits.name, split)


@pytest.mark.parametrize(
    ("name", "layer", "units"),
    [
        ("mlp", "", 256),
        ("mlp", "fc2", 256),
        ("lenet5", "conv1", 6 * 28 * 28),
        ("lenet5", "conv2", 16 * 10 * 10),
        ("lenet5", "", 120),
        ("lenet5", "fc2", 84),
    ],
)
def test_layers_are_called_as_in_the_paper(name, layer, units):
    network = load_network(Network(name=name, weights="random", layer=layer))
    assert (network.units, network.num_classes, network.channels) == (units, 10, 1)


def test_the_mlp_computes_what_its_weights_say():
    network = load_network(Network(name="mlp", weights="random"))
    weights = {name: value.double().numpy() for name, value in network.module.state_dict().items()}
    images = read_digits(None, "test").images[:3]
    x = images.reshape(3, -1) / 255
    first = x @ weights["fc1.weight"].T + weights["fc1.bias"]
    second = np.maximum(first, 0) @ weights["fc2.weight"].T + weights["fc2.bias"]
    logits = np.maximum(second, 0) @ weights["fc3.weight"].T + weights["fc3.bias"]
    output = network(torch.from_numpy(images.copy()).permute(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(output.pre_activation, first, atol=1e-5)
    np.testing.assert_allclose(output.logits, logits, atol=1e-5)


def test_training_is_seeded_and_learns():
    digits, test = few("train", 600), few("test")
    runs = [
        train_digit_network("mlp", "relu", digits, test, epochs=6, seed=seed) for seed in (1, 1, 2)
    ]
    states = [run.module.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["fc1.weight"], states[2]["fc1.weight"])
    assert min(run.test_accuracy for run in runs) > 0.8
    untrained = build_digit_network("mlp", "relu", 1)
    assert measure_accuracy(untrained, test) < 0.5


def test_accuracy_is_the_share_of_right_answers():
    module = build_digit_network("mlp", "relu", 0)
    test = few("test", 33)
    right = 0
    for image, label in zip(test.images, test.labels, strict=True):
        logits = module(torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255)
        right += int(logits.argmax()) == label
    assert measure_accuracy(module, test) == right / 33


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_weights_files_say_how_they_were_made(tmp_path, activation):
    path = tmp_path / "mlp.safetensors"
    options = TrainingOptions("mlp", activation, epochs=1, seed=3)
    assert train(options, None, path) == path
    about = read_metadata(path)
    assert about["activation"] == activation
    assert about["data"] == "scikit-learn digits"
    assert 0 < float(about["test_accuracy"]) < 1
    before = path.stat().st_mtime_ns
    train(options, None, path)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(NetworkError, match=r"seed = 3 \(now 4\)"):
        train(TrainingOptions("mlp", activation, epochs=1, seed=4), None, path)


def test_files_of_another_network_or_kind_are_refused(tmp_path):
    path = tmp_path / "mlp.safetensors"
    train(TrainingOptions("mlp", epochs=1), None, path)
    with pytest.raises(NetworkError, match=r"is of 'mlp', but the network is 'lenet5'"):
        load_network(Network(name="lenet5", weights=str(path)))
    save_file(load_file(path), tmp_path / "plain.safetensors")
    assert load_network(Network(name="mlp", weights=str(tmp_path / "plain.safetensors"))).units
    with pytest.raises(NetworkError, match=r"fc1\.weight"):
        load_network(Network(name="lenet5", weights=str(tmp_path / "plain.safetensors")))
    save_file(load_file(path), path, {"activation": "maxout"})
    with pytest.raises(NetworkError, match=r"no activation 'maxout'"):
        load_network(Network(name="mlp", weights=str(path)))


def test_without_weights_a_network_is_trained_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = load_network(Network(name="mlp"))
    (path,) = tmp_path.rglob("*.safetensors")
    assert float(read_metadata(path)["test_accuracy"]) > 0.9
    before = path.stat().st_mtime_ns
    assert load_network(Network(name="mlp")).digest == network.digest
    assert path.stat().st_mtime_ns == before


def test_a_penalty_on_collinear_hyperplanes_lowers_their_cosines():
    digits, test = few("train", 600), few("test")
    plain, same, penalised = (
        train_digit_network("mlp", "relu", digits, test, epochs=6, seed=1, **options)
        for options in ({}, {"collinearity": 0.0}, {"collinearity": 100.0})
    )
    first, again = (each.module.get_parameter("fc1.weight") for each in (plain, same))
    assert torch.equal(first, again)
    cosines = [
        HyperplaneCollinearity(hidden_layers(trained.module))().item()
        for trained in (plain, penalised)
    ]
    assert cosines[1] < 0.5 * cosines[0]
    assert penalised.test_accuracy > 0.7


def test_weights_of_other_kinds_say_nothing_of_themselves(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pt")
    np.savez(tmp_path / "w.npz", weight=np.zeros(2))
    # Caffe's weights of VGG-16, with which a finished row of Section 4 could not be compared.
    assert read_metadata(tmp_path / "w.pt") == read_metadata(tmp_path / "w.npz") == {}


def test_weights_files_say_with_which_penalty_they_were_made(tmp_path):
    path = tmp_path / "mlp.safetensors"
    plain = TrainingOptions("mlp", epochs=1)
    penalised = TrainingOptions("mlp", epochs=1, collinearity=2.5)
    train(penalised, None, path)
    about = read_metadata(path)
    assert about["collinearity"] == "2.5"
    network = load_network(Network(name="mlp", weights=str(path)))
    found = HyperplaneCollinearity(hidden_layers(network.module))()
    assert float(about["mean_squared_cosine"]) == pytest.approx(found.item(), abs=1e-6)
    train(penalised, None, path)
    with pytest.raises(NetworkError, match=r"collinearity = 2\.5 \(now 0\)"):
        train(plain, None, path)
    path.unlink()
    train(plain, None, path)
    # As in files from before there was a penalty.
    assert "collinearity" not in read_metadata(path)
    with pytest.raises(NetworkError, match=r"collinearity = 0 \(now 2\.5\)"):
        train(penalised, None, path)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_is_no_weight_is_refused(tmp_path, weight):
    with pytest.raises(NetworkError, match="collinearity should be a number of at least 0"):
        train(TrainingOptions("mlp", collinearity=weight), None, tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["weights.pth", "weights"])
def test_trained_weights_go_into_a_safetensors_file(tmp_path, name):
    with pytest.raises(NetworkError, match=r"should end in \.safetensors"):
        train(TrainingOptions("mlp"), None, tmp_path / name)
