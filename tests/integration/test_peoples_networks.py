"""Networks as people write them, from Python and by the command line."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from patchcollide import Polytope, find_polytope
from patchcollide.cli.framework import app
from patchcollide.errors import NetworkError, RunError
from patchcollide.images.pictures import write_png
from patchcollide.networks import factories
from tests.helpers import peoples_networks
from tests.helpers.peoples_networks import LAYERS, NETWORKS, SIZE

SETTINGS = {
    "optimiser.steps": 3,
    "optimiser.check_every": 3,
    "optimiser.num_vertices": 2,
    "optimiser.validation_samples": 4,
    "evaluation.num_samples": 4,
    "evaluation.null_samples": 4,
    "network.min_confidence": 0,
    "seed": 1,
}


def made(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(peoples_networks, name)()


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8) for _ in range(2)]


def command(*words):
    result = CliRunner().invoke(app, [*map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("name", NETWORKS)
def test_each_collides_from_python_and_left_as_it_is(name, pair):
    module = made(name).train()
    before = copy.deepcopy(module.state_dict())
    layer = LAYERS.get(name, NETWORKS[name][-1])
    found = find_polytope(module, layer, *pair, input_size=SIZE, settings=SETTINGS)
    assert found.network.usable_layers == NETWORKS[name]
    assert found.network.layer == layer
    assert len(found.vertices) == 2
    assert (found.vertices[0] != found.vertices[1]).any()
    with torch.no_grad():
        image = torch.from_numpy(pair[0].copy()).permute(2, 0, 1)[None] / 255
        expected = made(name).eval()(image)
    if isinstance(expected, dict):
        expected = expected["logits"]
    if expected.shape[1] == 1:
        expected = torch.cat([1 - expected.sigmoid(), expected.sigmoid()], 1)
    elif name != "SoftmaxAtTheEnd":
        expected = expected.softmax(1)
    index, _, probability = found.network.top(pair[0])
    assert index == int(expected.argmax())
    assert probability == pytest.approx(float(expected.max()))
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.fixture
def pictures(pair, tmp_path):
    for name, picture in zip(("source", "target"), pair, strict=True):
        write_png(tmp_path / f"{name}.png", picture)
    return tmp_path


def collide(folder, network, *more):
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    words = ["--source", folder / "source.png", "--target", folder / "target.png", "--pixels"]
    words += ["--out", folder / "run", "--network", network, "--input-size", SIZE]
    return command("collide", *words, *settings, *more)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_collides_by_the_command_line(name, pictures):
    layer = LAYERS.get(name, NETWORKS[name][-1])
    result = collide(pictures, f"tests.helpers.peoples_networks:{name}", "--layer", layer)
    assert result.exit_code == 0, result.stderr
    about = json.loads((pictures / "run" / "config.json").read_text())
    assert about["inputs"]["layer"] == layer
    assert about["config"]["network"]["input_size"] == SIZE


def test_a_checkpoint_of_data_parallel_is_taken(pictures, pair):
    path = pictures / "best.pth.tar"
    peoples_networks.checkpoint_of_data_parallel(path)
    name = "tests.helpers.peoples_networks:ViewFlatten"
    result = collide(pictures, name, "--weights", path)
    assert result.exit_code == 0, result.stderr
    trained = torch.load(path, weights_only=True)["state_dict"]
    found = Polytope.load(pictures / "run")
    for key, value in found.network.module.state_dict().items():
        assert torch.equal(value, trained[f"module.{key}"])
    parallel = nn.DataParallel(made("ViewFlatten"))
    assert find_polytope(parallel, "", *pair, input_size=SIZE, settings=SETTINGS).network.layer


def test_a_saved_polytope_is_opened_with_its_module(pair, tmp_path):
    module = made("ViewFlatten").train()
    size, mean, scale = SIZE, (0.5,) * 3, (0.25,) * 3
    found = find_polytope(
        module, "relu_1", *pair, input_size=size, mean=mean, scale=scale, settings=SETTINGS
    )
    folder = found.save(tmp_path / "saved")
    opened = Polytope.load(folder, network=nn.DataParallel(module))
    assert opened.contains(pair[1])
    assert opened.network.layer == "relu_1"
    black = torch.zeros(1, 3, SIZE, SIZE)
    assert torch.equal(opened.network.prepared(black), found.network.prepared(black))
    assert module.training
    with pytest.raises(RunError, match="was made with other weights"):
        Polytope.load(folder, network=peoples_networks.ViewFlatten())


def test_a_named_network_takes_images_as_is_said(pair):
    name = "tests.helpers.peoples_networks:ViewFlatten"
    found = find_polytope(name, "relu", *pair, input_size=SIZE, mean=(0.5,) * 3, settings=SETTINGS)
    assert found.config.network.mean == (0.5, 0.5, 0.5)
    assert float(found.network.prepared(torch.zeros(1, 3, SIZE, SIZE)).max()) == -0.5


def test_code_is_run_only_where_its_name_was_typed(pictures, monkeypatch):
    name = "tests.helpers.peoples_networks:ReusedRelu"
    assert collide(pictures, name).exit_code == 0
    monkeypatch.setattr(factories, "_asked_for", set())
    refused = command("certify", pictures / "run", "--edges", 1)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "a function, whose code would be run, and its name comes from a file. If" in said
    assert command("certify", pictures / "run", "--edges", 1, "--run-code", name).exit_code == 0
    (pictures / "settings.toml").write_text(f'[network]\nname = "{name}"\ninput_size = 16\n')
    monkeypatch.setattr(factories, "_asked_for", set())
    by_file = ["layers", "--config", pictures / "settings.toml"]
    assert command(*by_file).exit_code == 2
    assert command(*by_file, "--set", f"network.name={name}").exit_code == 0


def test_layers_are_listed_run_by_run():
    name = "tests.helpers.peoples_networks:ReusedRelu"
    lines = command("layers", "--network", name, "--input-size", SIZE).stdout.splitlines()
    rows = [line.split() for line in lines if "ReLU" in line]
    assert [row[:5] for row in rows] == [
        ["relu", "ReLU", "1024", "4x16x16", "<="],
        ["relu_1", "ReLU", "1024", "4x16x16", "<="],
    ]
    assert rows[0][-5:] == ["pixels,", "patches,", "exact,", "walk,", "proof"]
    assert rows[1][-4:] == ["pixels,", "patches,", "walk,", "proof"]


def test_layers_are_listed_at_an_image_and_to_a_tolerance(pictures):
    words = ["layers", pictures / "source.png", "--network", "timm:test_vit", "--weights", "random"]
    without = command(*words, "--input-size", 64).stdout
    assert "GELU" in without
    assert re.search(r"with tolerance 0\.\d+ .* at 0\.001, .* nothing without a tolerance", without)
    assert "walk needs a piecewise linear network" in without
    row = command(*words, "--input-size", 64, "--set", "network.tolerance=0.1").stdout
    assert re.search(r"GELU .* <= 0\.1 .* %|GELU .* pixels, patches", row)


def test_networks_are_listed():
    lines = command("networks").stdout.splitlines()
    assert lines[:4] == ["efficientnet_lite0", "vgg16", "mlp", "lenet5"]
    assert lines[4].startswith("torchvision:NAME, ")
    assert "torchvision:resnet50" in command("networks", "torchvision").stdout.splitlines()
    refused = command("networks", "keras")
    assert refused.exit_code == 2
    assert "keras is no library of networks here" in refused.stderr


REFUSED = {
    "nowhere:make": r"cannot be imported: ModuleNotFoundError",
    "tests.helpers.peoples_networks:ReusdRelu": r"did you mean tests.*:ReusedRelu\?",
    "tests.helpers.peoples_networks:SIZE": r"should be a function, but is a int",
    "tests.helpers.peoples_networks:checkpoint_of_data_parallel": r"failed: TypeError: .* argument",
    "builtins:dict": r"should return a torch.nn.Module, but returned a dict",
    "torchvision:resnet81": r"no network 'resnet81'; did you mean torchvision:resnet18\?",
    "timm:resnet10tt": r"timm has no network .*; did you mean timm:resnet10t\?",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_network_is_refused_in_a_sentence(name, pair):
    with pytest.raises(NetworkError, match=REFUSED[name]):
        find_polytope(name, "", *pair, settings={**SETTINGS, "network.weights": "random"})


def test_the_size_of_images_has_to_be_known(pair):
    with pytest.raises(NetworkError, match=r"does not say how large .* Give it: --input-size"):
        find_polytope("tests.helpers.peoples_networks:Loops", "", *pair, settings=SETTINGS)


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_convnext"])
def test_smooth_networks_collide_to_a_tolerance(name, pair):
    settings = {**SETTINGS, "network.tolerance": 0.1, "network.weights": "random"}
    found = find_polytope(name, "", *pair, settings=settings)
    blind = ~found.target.features(found.network).active
    assert 0 < int(blind.sum()) < found.network.units
    assert found.network.call.kind in ("GELU", "GELUTanh")
    assert len(found.history) == SETTINGS["optimiser.steps"]
    assert np.isfinite([row["loss"] for row in found.history]).all()
    assert found.distance > 0
    assert found.evaluate()["tightness"]["hull"]
