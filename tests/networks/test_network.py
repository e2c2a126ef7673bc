"""Networks as descents see them: the layer's pre-activation, blind regions, gradients, classes."""

import copy
import importlib.resources
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.images.pictures import read_image
from patchcollide.networks import loading
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.loading import load_network
from patchcollide.networks.models.efficientnet_lite0 import (
    build_efficientnet_lite0,
    load_efficientnet_lite0,
)
from patchcollide.networks.models.vgg16 import load_vgg16
from tests.helpers.small_networks import MEAN, SCALE, SIZE, small_module, wrap


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def normalised(images):
    mean, scale = torch.tensor(MEAN), torch.tensor(SCALE)
    return (images - mean[:, None, None]) / scale[:, None, None]


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize(("layer", "units"), [("1", 5 * SIZE * SIZE), ("5", 9)])
def test_pre_activation_is_the_input_of_an_in_place_activation(batch, layer, units, rng):
    module = small_module(rng, nn.GELU())
    images = torch.rand(batch, 3, SIZE, SIZE, generator=rng)
    network = wrap(module, layer)
    pre_activation, logits = network(images)
    with torch.no_grad():
        expected = module[: int(layer)](normalised(images)).flatten(1)
        expected_logits = module(normalised(images))
    assert (pre_activation < 0).any()
    assert pre_activation.shape == (batch, units)
    assert network.units == units
    assert network.num_classes == 4
    torch.testing.assert_close(pre_activation, expected)
    torch.testing.assert_close(logits, expected_logits)


def test_efficientnet_pre_activation_is_taken_before_the_in_place_relu6(efficientnet, rng):
    images = torch.rand(2, 3, 224, 224, generator=rng)
    # As it was trained: batch norms on their own, in double precision.
    model: Any = build_efficientnet_lite0("pretrained", seed=0).double()
    with torch.no_grad():
        pre_activation, logits = efficientnet(images)
        images = (images.double() * 255 - 127) / 128
        # timm's forward_features, with the last batch norm written out and its ReLU6 left out.
        features = model.conv_head(model.blocks(model.bn1(model.conv_stem(images))))
        norm = model.bn2
        expected = F.batch_norm(
            features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        torch.testing.assert_close(logits.double(), model(images), atol=1e-4, rtol=1e-4)
    assert efficientnet.layer == "bn2.act"
    assert efficientnet.blind == BlindRegions(0.0, 6.0)
    assert pre_activation.shape == (2, 62_720)
    assert (pre_activation < 0).any()
    expected = expected.flatten(1).float()
    torch.testing.assert_close(pre_activation, expected, atol=1e-4, rtol=1e-4)


def test_fc6_of_vgg16_is_the_first_fully_connected_layer(vgg, rng):
    images = torch.rand(1, 3, 224, 224, generator=rng)
    with torch.no_grad():
        pre_activation, _ = vgg(images)
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        scale = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        pooled = vgg.module.features((images - mean) / scale).flatten(1)
        linear = vgg.module.classifier[0]
        expected = pooled @ linear.weight.T + linear.bias
    assert vgg.layer == "classifier.1"
    assert vgg.units == 256
    assert (pre_activation < 0).any()
    torch.testing.assert_close(pre_activation, expected)


def test_gradients_reach_the_image_even_from_blind_units(rng):
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng, requires_grad=True)
    pre_activation, _ = wrap(small_module(rng, nn.GELU()), "5")(images)
    assert (pre_activation < 0).any()
    (gradient,) = torch.autograd.grad(pre_activation[pre_activation < 0].sum(), images)
    assert gradient.abs().sum() > 0


def test_parameters_are_frozen_and_dropout_is_off(rng):
    module = nn.Sequential(small_module(rng, nn.GELU()), nn.Dropout(0.5)).train()
    network = wrap(module, "0.5")
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert torch.equal(network(images).logits, network(images).logits)


def test_a_call_leaves_nothing_behind_even_when_it_fails(rng):
    module = small_module(rng, nn.GELU())
    network = wrap(module, "5")
    network(torch.rand(1, 3, SIZE, SIZE, generator=rng))
    module[6] = nn.Linear(3, 4)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network(torch.rand(1, 3, SIZE, SIZE, generator=rng))
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_a_relu_shared_by_two_places_is_two_layers(rng):
    shared = nn.ReLU()
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), shared, nn.Linear(8, 8), shared)
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng)
    for name, end in [("2", 2), ("2_1", 4)]:
        network = wrap(module, name)
        assert network.usable_layers == ["2", "2_1"]
        expected = module[:end](normalised(images))
        torch.testing.assert_close(network(images).pre_activation, expected)
        torch.testing.assert_close(network.pre_activation(images), expected)
    with pytest.raises(NetworkError, match=r"'4' of small is '2' by another name, .* 2 times.*2_1"):
        wrap(module, "4")
    with pytest.raises(NetworkError, match=r"no layer '2_2': '2' runs 2 times .*\(2, 2_1\)"):
        wrap(module, "2_2")


def test_a_layer_that_never_runs_is_refused(rng, monkeypatch):
    module = small_module(rng, nn.GELU())
    module.add_module("unused", nn.ReLU())
    monkeypatch.setattr(module, "forward", nn.Sequential(*list(module)[:8]).forward)
    with pytest.raises(NetworkError, match=r"'unused' of small .* ran 0 times"):
        wrap(module, "unused")


def test_the_pass_of_a_descent_ends_at_the_layer_with_the_same_values_and_gradients(rng):
    network = wrap(small_module(rng, nn.GELU()), "1")
    after: list[None] = []
    found = []
    network.module.get_submodule("2").register_forward_hook(lambda *_: after.append(None))
    images = torch.rand(3, 3, SIZE, SIZE, generator=rng).requires_grad_()
    whole = network(images).pre_activation
    passed = network.pre_activation(images)
    assert len(after) == 1
    assert torch.equal(whole, passed)
    for z in (whole, passed):
        found.append(torch.autograd.grad(z.square().sum(), images)[0])
    assert torch.equal(*found)


def test_the_pass_of_a_descent_can_be_in_bfloat16_and_a_call_is_not(rng):
    network = wrap(small_module(rng, nn.GELU()), "5", low_precision=True)
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng).requires_grad_()
    exact = network(images).pre_activation
    rough = network.pre_activation(images)
    assert rough.dtype == exact.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()
    (gradient,) = torch.autograd.grad(rough.sum(), images)
    (expected,) = torch.autograd.grad(exact.sum(), images)
    assert torch.nn.functional.cosine_similarity(gradient.ravel(), expected.ravel(), 0) > 0.98


@pytest.mark.parametrize(
    ("precision", "units", "low"),
    [
        ("float32", True, False),
        ("bfloat16", False, True),
        ("auto", True, True),
        ("auto", False, False),
    ],
)
def test_precision_follows_the_setting_and_the_machine(precision, units, low, monkeypatch):
    monkeypatch.setattr(loading, "has_bfloat16_units", lambda _: units)
    settings = Network(weights="random", precision=precision)
    assert load_network(settings).low_precision == low


def test_cuda_asked_for_and_absent_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NetworkError, match=r"finds no CUDA device here\. Choose --device cpu"):
        load_network(Network(device="cuda"))
    assert loading.find_device("auto") == torch.device("cpu")


def test_an_unknown_layer_is_answered_with_the_usable_ones(rng):
    with pytest.raises(NetworkError, match=r"small has no layer '9'\. Usable are 1, 5\."):
        wrap(small_module(rng, nn.GELU()), "9")
    with pytest.raises(NetworkError, match=r"no layer 'fc66'; did you mean fc6\?"):
        load_vgg16(weights="random", width=1, layer="fc66")


@pytest.mark.parametrize(("layer", "kind"), [("0", "Conv2d"), ("7", "GELU")])
def test_a_layer_without_a_blind_region_is_refused(layer, kind, rng):
    with pytest.raises(NetworkError, match=rf"'{layer}' of small is a {kind}, .* Usable are 1, 5"):
        wrap(small_module(rng, nn.GELU()), layer)


def test_a_given_blind_region_admits_any_activation(rng):
    assert wrap(small_module(rng, nn.GELU()), "7", blind=BlindRegions(-9.0, None)).blind.low == -9.0


def test_usable_layers_are_the_activations_with_a_blind_region(rng, efficientnet):
    assert wrap(small_module(rng, nn.GELU()), "1").usable_layers == ["1", "5"]
    assert efficientnet.usable_layers[-1] == "bn2.act"


def test_a_layer_that_is_nowhere_constant_is_usable_with_a_tolerance(rng):
    told = r"GELU, .* exactly\. .*--set network\.tolerance=0\.\d+; of an image of noise, .* at 0\.1"
    with pytest.raises(NetworkError, match=told):
        wrap(small_module(rng, nn.GELU()), "7")
    network = wrap(small_module(rng, nn.GELU()), "7", tolerance=0.01)
    assert network.blind.tolerance == 0.01
    images = torch.rand(3, 3, SIZE, SIZE, generator=rng)
    z = network(images).pre_activation
    lower, upper = copy.deepcopy(network).in_float64().blind.intervals(z)
    assert (lower < z).all()
    assert (upper > z).all()
    finite = upper.isfinite()
    torch.testing.assert_close(
        (F.gelu(upper) - F.gelu(z)).abs()[finite], torch.full_like(z, 0.01)[finite]
    )
    assert network.usable_layers == ["1", "5", "7"]
    with pytest.raises(NetworkError, match=r"is a Conv2d, .* collide there\. Usable are 1, 5, 7\."):
        wrap(small_module(rng, nn.GELU()), "0", tolerance=0.01)


def test_the_tolerance_of_the_settings_reaches_the_network():
    exact = load_network(Network(weights="random", layer="features"))
    rough = load_network(Network(weights="random", layer="features", tolerance=0.5))
    assert exact.blind == BlindRegions(0.0, 6.0)
    assert (rough.blind.low, rough.blind.high) == pytest.approx((0.5, 5.5))
    assert rough.digest == exact.digest
    assert load_vgg16(weights="random", width=1, tolerance=0.5).blind.tolerance == 0.5


def test_images_of_another_size_are_resized_with_gradients(rng):
    network = wrap(small_module(rng, nn.GELU()), "1")
    images = torch.rand(1, 3, 2 * SIZE, 3 * SIZE, generator=rng, requires_grad=True)
    resized = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
    pre_activation, logits = network(images)
    torch.testing.assert_close(pre_activation, network(resized).pre_activation)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert (gradient != 0).any(dim=1).float().mean() > 0.9


@pytest.mark.parametrize("batch", [1, 3])
def test_probabilities_sum_to_one(batch, rng):
    network = wrap(small_module(rng, nn.GELU()), "1")
    probabilities = network.probabilities(torch.rand(batch, 3, SIZE, SIZE, generator=rng))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(batch))


def test_an_image_in_bytes_gets_the_class_of_its_floats(rng):
    image = torch.randint(256, (SIZE, SIZE, 3), generator=rng, dtype=torch.uint8)
    network = wrap(small_module(rng, nn.GELU()), "1", class_names=["a", "b", "c", "d"])
    expected = network.probabilities(image.permute(2, 0, 1)[None] / 255)[0]
    index, name, probability = network.top(image.numpy())
    assert network.top(image) == (index, name, probability)
    assert index == int(expected.argmax())
    assert name == "abcd"[index]
    assert probability == pytest.approx(float(expected.max()))


def test_wrong_modules_are_refused_at_once(rng):
    with pytest.raises(NetworkError, match="has 4 classes, but 3 class names"):
        wrap(small_module(rng, nn.GELU()), "1", class_names=["a", "b", "c"])
    with pytest.raises(NetworkError, match=r"cannot classify a batch of shape \(1, 3, 20, 20\)"):
        wrap(small_module(rng, nn.GELU()), "1", input_size=20)
    with pytest.raises(
        NetworkError, match=r"logits of shape \(1, classes\), but returned \(1, 5, 16"
    ):
        wrap(small_module(rng, nn.GELU())[:2], "1")


def test_the_digest_follows_the_parameters(rng):
    module = small_module(rng, nn.GELU())
    first = wrap(module, "1").digest
    assert wrap(module, "5").digest == first
    with torch.no_grad():
        module.get_parameter("6.bias")[0] += 1e-3
    assert wrap(module, "1").digest != first


def test_efficientnet_sees_espresso_in_a_cup_of_coffee(efficientnet):
    coffee = importlib.resources.files("skimage") / "data" / "coffee.png"
    with importlib.resources.as_file(coffee) as path:
        image = read_image(path, size=224, fit="crop", max_pixels=1_000_000)
    index, name, probability = efficientnet.top(image)
    assert (index, name) == (967, "espresso")
    assert probability > 0.9


def test_both_networks_name_the_same_thousand_classes(efficientnet, vgg):
    same = np.array(efficientnet.class_names) == np.array(vgg.class_names)
    assert len(same) == 1000
    assert same.mean() > 0.9


def test_layer_aliases(vgg):
    assert load_vgg16(weights="random", width=1, layer="fc7").layer == "classifier.4"
    random = load_network(Network(weights="random", layer="features"))
    assert random.layer == "bn2.act"


@pytest.mark.parametrize("load", [load_efficientnet_lite0, lambda **o: load_vgg16(width=1, **o)])
def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(load):
    before = torch.get_rng_state()
    first, again, other = (load(weights="random", seed=seed).digest for seed in (3, 3, 4))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_network_is_answered_with_the_known_ones():
    with pytest.raises(
        NetworkError, match=r"did you mean vgg16\? Known are efficientnet_lite0, vgg16"
    ):
        load_network(Network(name="vgg-16"))


def test_importing_the_package_loads_neither_timm_nor_torchvision():
    code = (
        "import sys, patchcollide.networks.loading\n"
        "sys.exit(bool({'timm', 'torchvision', 'safetensors'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
