"""Whether collisions reach other layers and networks, where that is known."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.evaluation import transfer
from patchcollide.evaluation.gaps import gaps_of_pairs, measure_gaps, random_pairs
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.evaluation.transfer import Figures, features_at, measure_pairs, measure_transfer
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures

SIZE, UNITS = 4, 6


def half_blind(reads_left, seed, layer="act1"):
    """Two hidden layers; the first reads only the left half of the image, or only the right."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                fc1=nn.Linear(SIZE**2, UNITS),
                act1=nn.ReLU(inplace=True),
                fc2=nn.Linear(UNITS, 5),
                act2=nn.ReLU(inplace=True),
                fc3=nn.Linear(5, 3),
            )
        )
        columns = torch.arange(SIZE**2) % SIZE < SIZE // 2
        with torch.no_grad():
            weight = module.get_parameter("fc1.weight")
            weight[:, columns if not reads_left else ~columns] = 0
    return CollisionNetwork(
        module, name="half", layer=layer, input_size=SIZE, mean=(0.0,), scale=(1.0,)
    )


def layers_of(network):
    return dict(network.find_layer(layer) for layer in network.usable_layers)


@pytest.fixture
def vertices(generator):
    """Equal left halves, which are the target's, and any right ones."""
    images = torch.rand(5, 1, SIZE, SIZE, generator=generator)
    images[:, :, :, : SIZE // 2] = images[:1, :, :, : SIZE // 2]
    return images


def batches(vertices, generator, count=40):
    weights = uniform_weights(count, len(vertices), generator)
    return torch.split(combine(weights, vertices), 7)


def test_what_collides_at_a_layer_collides_behind_it(vertices, generator):
    network = half_blind(reads_left=True, seed=1)
    target = features_at(network, layers_of(network), vertices[:1])
    found = measure_transfer(network, target, batches(vertices, generator))
    assert list(found) == ["act1", "act2"]
    for figures in found.values():
        assert figures.in_class == 1
        assert figures.feature_distance < 1e-6
        # At most what rounding lifts over zero.
        assert figures.inactive_response == 0


def test_another_network_sees_the_difference(vertices, generator):
    other = half_blind(reads_left=False, seed=2)
    target = features_at(other, layers_of(other), vertices[:1])
    found = measure_transfer(other, target, batches(vertices, generator))
    assert found["act1"].feature_distance > 0.05
    assert found["act2"].feature_distance > 0.01


def test_blind_units_may_differ_at_a_layer_but_not_behind_it(generator):
    network = half_blind(reads_left=True, seed=1)
    with torch.no_grad():
        network.module.fc1.bias.fill_(-9)
    images = torch.rand(4, 1, SIZE, SIZE, generator=generator)
    pre_activations = network(images).pre_activation
    assert not torch.equal(pre_activations[0], pre_activations[1])
    target = features_at(network, layers_of(network), images[:1])
    for figures in measure_transfer(network, target, [images]).values():
        assert figures == Figures(1, 0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_each_layer_alone(seed, generator):
    network = half_blind(reads_left=True, seed=seed)
    images = torch.rand(9, 1, SIZE, SIZE, generator=generator)
    found = measure_transfer(
        network, features_at(network, layers_of(network), images[:1]), images.split(4)
    )
    for layer, figures in found.items():
        alone = half_blind(reads_left=True, seed=seed, layer=layer)
        at_target, output = alone(images[:1]), alone(images)
        features = TargetFeatures.of(at_target.pre_activation[0], alone.blind)
        gaps = measure_gaps(output.pre_activation, features)
        same = output.logits.argmax(dim=1) == at_target.logits.argmax()
        assert figures.in_class == float(same.double().mean())
        assert figures.feature_distance == pytest.approx(
            float(gaps.feature_distance_relative.mean())
        )
        assert figures.inactive_response == pytest.approx(
            float(gaps.inactive_response_share.mean())
        )


@pytest.mark.parametrize("most_kept", [1, 70, 10**9])
def test_pairs_are_those_of_each_layer_alone(most_kept, generator, monkeypatch):
    monkeypatch.setattr(transfer, "_MOST_KEPT_VALUES", most_kept)
    network = half_blind(reads_left=True, seed=1)
    images = torch.rand(11, 1, SIZE, SIZE, generator=generator)
    pairs = random_pairs(11, 20, np.random.default_rng(0))
    found = measure_pairs(network, layers_of(network), images, pairs)
    assert list(found) == ["act1", "act2"]
    for layer, figures in found.items():
        output = half_blind(reads_left=True, seed=1, layer=layer)(images)
        gaps = gaps_of_pairs(output.pre_activation, network.find_layer(layer)[1], pairs)
        classes = output.logits.argmax(dim=1).numpy()
        hits = [classes[first] == classes[second] for first, second in pairs]
        assert figures.in_class == sum(hits) / len(hits)
        assert figures.feature_distance == pytest.approx(
            float(gaps.feature_distance_relative.mean())
        )
        assert figures.inactive_response == pytest.approx(
            float(gaps.inactive_response_share.mean())
        )
