"""Modules as people have them: within others, scripted, in other precisions; or refused."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.evaluation.claims import walk_edges
from patchcollide.networks.plain_modules import copied, plain_module
from tests.helpers.scripting import as_torchscript
from tests.helpers.small_networks import SIZE, small_module, wrap


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def quietly(function, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


def compiled(module) -> Any:
    return torch.compile(module)


WRAPPED: dict[str, Callable[[nn.Module], Any]] = {
    "parallel": nn.DataParallel,
    "compiled": compiled,
    "both": lambda module: nn.DataParallel(compiled(module)),
    "scripted": as_torchscript,
    "traced": lambda module: quietly(torch.jit.trace, module, torch.rand(1, 3, SIZE, SIZE)),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_what_is_around_a_module_changes_nothing(kind, rng):
    module = small_module(rng).eval()
    images = torch.rand(3, 3, SIZE, SIZE, generator=rng)
    expected = wrap(copied(module), "")
    network = wrap(WRAPPED[kind](module), "")
    assert len(network.usable_layers) == len(expected.usable_layers) == 2
    for found, wanted in zip(network(images), expected(images), strict=True):
        torch.testing.assert_close(found, wanted)
    found, wanted = (
        each.in_float64().pre_activation(images.double()) for each in (network, expected)
    )
    torch.testing.assert_close(found, wanted)


def test_a_module_compiled_in_place_is_watched(rng):
    module = small_module(rng)
    module.compile()
    module[4].compile()
    copy = copied(plain_module(module, "it"))
    assert module._compiled_call_impl is not None  # The caller's stays as it is.
    assert wrap(copy, "").usable_layers == ["1", "5"]
    assert not any(part._compiled_call_impl for part in copy.modules())


@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_edges_of_scripts_are_walked(kind, rng):
    vertices = torch.rand(2, 3, SIZE, SIZE, generator=rng)
    module = small_module(rng).eval()
    networks = [wrap(copied(module), ""), wrap(WRAPPED[kind](module), "")]
    expected, found = (
        walk_edges(each, vertices, 0, num_edges=None, max_pieces=500) for each in networks
    )
    assert found["complete"] == expected["complete"]
    assert found["worst_margin"] == pytest.approx(expected["worst_margin"])


def test_a_list_where_a_builtin_of_pytorch_lay_is_scripted_for_all_that(rng, monkeypatch):
    module = torchvision.models.squeezenet1_1(weights=None).eval()
    conv: Any = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    table: Any = torch.jit._builtins._get_builtin_table()
    monkeypatch.setitem(table, id(conv._reversed_padding_repeated_twice), "aten::abs")
    images = torch.rand(2, 3, 32, 32, generator=rng)
    with torch.no_grad():
        assert torch.equal(as_torchscript(module)(images), module(images))


def test_a_scripted_network_of_torchvision_computes_the_same(rng):
    module = torchvision.models.squeezenet1_1(weights=None).eval()
    images = torch.rand(2, 3, 32, 32, generator=rng)
    unscripted = plain_module(as_torchscript(module), "it")
    with torch.no_grad():
        assert torch.equal(unscripted(images), module(images))
    assert unscripted.state_dict().keys() == module.state_dict().keys()


class Branching(nn.Module):
    """Control that a script has and a trace has not."""

    def forward(self, x: torch.Tensor, times: int = 3) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for number in range(times):
            x = F.relu(x - 0.1) if number % 2 == 0 else x * 2
            kept.append(x)
        first, second = kept[0], kept[-1]
        return torch.cat([first, second], dim=1).flatten(1)[:, :: x.shape[-1]]


@pytest.mark.parametrize("times", [0, 1, 4])
def test_loops_and_branches_of_scripts_are_run(times, rng):
    module = Branching()
    unscripted = plain_module(as_torchscript(module), "it")
    x = torch.rand(2, 3, 4, 4, generator=rng)
    if times:
        assert torch.equal(unscripted(x, times), module(x, times))
    else:
        with pytest.raises((RuntimeError, IndexError)):
            unscripted(x, times)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_compared_in_one(dtype, rng):
    network = wrap(small_module(rng).to(dtype), "5")
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng).requires_grad_()
    output, z = network(images), network.pre_activation(images)
    assert {output.logits.dtype, output.pre_activation.dtype, z.dtype} == {torch.float32}
    assert torch.autograd.grad(z.sum(), images)[0].any()
    assert network.in_float64()(images.double()).logits.dtype == torch.float64


def test_a_copy_leaves_what_was_computed_before(rng):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4), nn.ReLU(), nn.Linear(4, 3))
    quietly(nn.utils.weight_norm, module[1])
    module.train()(torch.rand(2, 3, SIZE, SIZE, generator=rng))
    found = copied(module)
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng)
    assert torch.equal(found(images), module(images))
    assert wrap(found, "2").units == 4
    assert module.training
    assert module[3].weight.requires_grad


class Viewing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * (SIZE - 2) ** 2, 3)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).view(len(x), -1))


def test_what_needs_channels_first_gets_them(rng):
    network = wrap(Viewing(), "")
    images = torch.rand(2, SIZE, SIZE, 3, generator=rng).permute(0, 3, 1, 2)
    assert network(images).logits.shape == (2, 3)
    assert network.in_float64()(images.double()).logits.shape == (2, 3)


def meta():
    with torch.device("meta"):
        return Viewing()


REFUSED = {
    "lazy": (
        lambda: nn.Sequential(nn.LazyLinear(2)),
        r"shapes only from a first image, such as '0",
    ),
    "meta": (meta, r"without values, on the meta device, such as 'conv.weight' \(4 of 4\)\. Load"),
    "complex": (lambda: nn.Linear(2, 2, dtype=torch.complex64), r"has complex parameters"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_gradients_is_refused_in_a_sentence(kind):
    made, message = REFUSED[kind]
    with pytest.raises(NetworkError, match=message):
        wrap(made(), "")


def test_other_sizes_and_channels_are_refused_in_a_sentence(rng):
    module = small_module(rng)
    with pytest.raises(NetworkError, match=r"input_size should be a whole .* but is 0\. Pictures"):
        wrap(module, "1", input_size=0)
    with pytest.raises(NetworkError, match=r"mean has 4 and scale has 4\. Give as many"):
        wrap(module, "1", mean=(0.0,) * 4, scale=(1.0,) * 4)
    with pytest.raises(NetworkError, match=r"mean has 1 and scale has 3"):
        wrap(module, "1", mean=(0.0,))
    with pytest.raises(NetworkError, match=r"scale nowhere zero"):
        wrap(module, "1", scale=(1.0, 0.0, 1.0))


class Returning(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.inner, self.function = small_module(torch.Generator().manual_seed(1)), function

    def forward(self, x):
        return self.function(self.inner(x), x)


NAMED = torchvision.models.GoogLeNetOutputs
RETURNED = {
    "a dictionary": (lambda y, x: {"x": x.mean((2, 3)), "logits": y}, None),
    "the only matrix": (lambda y, x: [x, y, y.sum()], None),
    "a named tuple": (lambda y, _: NAMED(y, None, None), None),
    "by name": (lambda y, _: {"out": y, "aux": y + 1}, "out"),
    "by number": (lambda y, _: (y + 1, y), 1),
    "by a number in settings": (lambda y, _: (y + 1, y), "1"),
    "by a function": (lambda y, _: {"a": [y]}, lambda values: values["a"][0]),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_logits_are_found_among_what_is_returned(kind, rng):
    function, pick = RETURNED[kind]
    network = wrap(Returning(function), "inner.5", output=pick)
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng)
    expected = network.module.get_submodule("inner")(network.prepared(images))
    assert torch.equal(network(images).logits, expected)
    assert torch.equal(network.classifier(network.prepared(images)), expected)


def test_several_that_may_be_logits_are_named():
    with pytest.raises(NetworkError, match=r"a \(1, 4\), b \(1, 4\), and among these 2 that may"):
        wrap(Returning(lambda y, _: {"a": y, "b": y}), "inner.5")
    with pytest.raises(
        NetworkError, match=r"and among these nothing called 'logit' it\. Say which"
    ):
        wrap(Returning(lambda y, _: {"logits": y}), "inner.5", output="logit")
