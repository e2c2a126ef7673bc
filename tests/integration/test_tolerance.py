"""Collisions to a tolerance, at layers that are nowhere exactly constant: settings to images."""

import json

import pytest
import torch
from torch import nn

from patchcollide.config_files import load_config, parse_config
from patchcollide.errors import ConfigError, RunError, TargetError
from patchcollide.evaluation.residuals import collides
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.images.pictures import write_png
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from patchcollide.randomness import seeded
from patchcollide.runs import collide, networks
from tests.conftest import SMALL
from tests.helpers.pictures import picture

SEARCH = (
    *SMALL,
    "network.tolerance=0.05",
    "optimiser.num_vertices=3",
    "optimiser.steps=200",
    "optimiser.check_every=100",
    "optimiser.learning_rate=2.0",
    "objective.active=1000",
    "objective.inactive=1000",
    "objective.diversity=0",
)


def network_with(activation, tolerance):
    """As the other tests' small network, but with inputs of its activation well into both tails."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = nn.Sequential()
        layers.add_module("conv", nn.Conv2d(3, 6, kernel_size=5, stride=4, padding=2))
        layers.add_module("act", activation)
        layers.add_module("flatten", nn.Flatten())
        layers.add_module("classifier", nn.Linear(6 * 8 * 8, 4))
    with torch.no_grad():
        layers.get_parameter("conv.weight").mul_(4)
        layers.get_parameter("conv.bias").sub_(2)
    return CollisionNetwork(
        layers,
        name="small",
        layer="act",
        input_size=32,
        mean=(0.5, 0.5, 0.5),
        scale=(0.25, 0.25, 0.25),
        class_names=("ant", "bee", "cat", "dog"),
        tolerance=tolerance,
    )


def found_between(network, *overrides):
    """Descents with free pixels; returns the descent, and the vertices with points between them."""
    config = load_config(overrides=[*SEARCH, *overrides])
    task = make_task(config, network, Target.of_picture(network, picture(2)))
    start = make_parameterisation(config, network, picture(1), None)
    vertices, _ = find_vertices(task, start)
    between = combine(uniform_weights(50, len(vertices), seeded(0)), vertices)
    return task, torch.cat([vertices, between])


@pytest.mark.parametrize("activation", [nn.GELU(), nn.ELU(), nn.LeakyReLU()], ids=repr)
def test_the_gradient_descent_collides_to_a_tolerance(activation):
    network = network_with(activation, 0.05)
    task, images = found_between(network, "objective.units=none")
    source = torch.from_numpy(picture(1)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        z, _ = network(images)
        before = activation(network(source).pre_activation)
    wanted = activation(task.target.pre_activation)
    assert (before - wanted).abs().max() > 1
    assert ((activation(z) - wanted).abs() <= 0.0501).all()
    assert collides(z, task.target).float().mean() > 0.9
    # The pre-activations themselves are as far apart as the activation lets them be.
    assert (z - task.target.pre_activation).abs().max() > 0.1


@pytest.mark.parametrize("activation", [nn.GELU(), nn.ELU()], ids=repr)
def test_units_that_tend_to_a_constant_are_driven_deeper(activation):
    network = network_with(activation, 0.05)
    task, images = found_between(network, "objective.inactive=100")
    with torch.no_grad():
        z, _ = network(images)
    apart = (activation(z) - activation(task.target.pre_activation)).abs()
    assert apart.max() < 0.3
    for vertex, unit in enumerate(task.units.tolist()):
        assert task.target.lower[unit] == -torch.inf
        others = [z[other, unit] for other in range(3) if other != vertex]
        assert z[vertex, unit] < min(others) - 1


def test_a_layer_without_an_endless_interval_says_what_to_do():
    network = network_with(nn.LeakyReLU(), 0.05)
    with pytest.raises(TargetError, match=r"objective\.units = 'none'"):
        found_between(network, "optimiser.steps=1", "objective.tightness=0")


def test_settings_from_before_there_was_a_tolerance_mean_none():
    values = load_config().model_dump(mode="json")
    assert values["network"].pop("tolerance") == 0
    assert parse_config(values, "config.json") == load_config()
    with pytest.raises(ConfigError, match=r"network\.tolerance = -1"):
        load_config(overrides=["network.tolerance=-1"])


def test_a_run_keeps_its_tolerance_and_another_one_is_another_run(tmp_path, monkeypatch):
    network = network_with(nn.ELU(), 0.05)
    asked = []

    def load_network(*settings):
        asked.append(settings[0])
        return network

    for module in (collide, networks):
        monkeypatch.setattr(module, "load_network", load_network)
    for seed, name in ((1, "source.png"), (2, "target.png")):
        write_png(tmp_path / name, picture(seed))

    def run(*overrides):
        config = load_config(overrides=[*SEARCH, "optimiser.steps=2", *overrides])
        paths = [tmp_path / name for name in ("source.png", "target.png", "run")]
        return collide.collide(config, *paths)

    folder = run()
    assert (
        json.loads((folder / "config.json").read_text())["config"]["network"]["tolerance"] == 0.05
    )
    collide.evaluate(folder)
    assert [settings.tolerance for settings in asked] == [0.05, 0.05]
    with pytest.raises(RunError, match=r"network\.tolerance: found 0\.05, expected 0\.1"):
        run("network.tolerance=0.1")
