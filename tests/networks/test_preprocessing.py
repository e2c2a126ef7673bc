"""Networks are built of objects, or of the fields of these."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from patchcollide.networks.activations import blind_regions
from patchcollide.networks.layers import LayerSpec
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.preprocessing import Preprocessing
from tests.helpers.small_networks import MEAN, SCALE, SIZE, small_module

SEEN = Preprocessing(SIZE, MEAN, SCALE)
RELU6 = blind_regions(nn.ReLU6())
ALIASES = {"last": "5"}


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "options",
    [
        {"layer": LayerSpec("last", RELU6, aliases=ALIASES), "preprocessing": SEEN},
        {
            "layer": LayerSpec("last", aliases=ALIASES),
            "blind": RELU6,
            "preprocessing": replace(SEEN, mean=(0.0,) * 3),
            "mean": MEAN,
        },
    ],
    ids=["objects alone", "fields come before objects"],
)
def test_objects_build_the_network_that_their_fields_build(options, rng):
    module, images = small_module(rng), torch.rand(2, 3, 20, 20, generator=rng)
    expected = CollisionNetwork(
        module,
        name="n",
        layer="last",
        input_size=SIZE,
        mean=MEAN,
        scale=SCALE,
        blind=RELU6,
        aliases=ALIASES,
    )
    network = CollisionNetwork(module, name="n", **options)
    assert (network.layer, network.blind) == ("5", expected.blind)
    assert network.blind.intervals(torch.tensor([7.0]))[1] == torch.inf
    assert (network.input_size, network.channels) == (SIZE, 3)
    assert network.find_layer("last") == expected.find_layer("last")
    assert torch.equal(network(images).logits, expected(images).logits)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preprocessing": SEEN, "tolerence": 0.1}, "unexpected keyword argument 'tolerence'"),
        ({"mean": MEAN}, "missing .*'input_size'"),
    ],
)
def test_keywords_that_are_unknown_or_missing_are_named(fields, message, rng):
    with pytest.raises(TypeError, match=message):
        CollisionNetwork(small_module(rng), name="n", layer="1", **fields)
