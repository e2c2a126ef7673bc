"""What a network computes is read from its operators; what has no bound is refused by name."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.proofs.bands import Band, run_forward
from patchcollide.proofs.tracing import FEATURES, LOGITS, PRE_ACTIVATION, read_program


def network_of(*layers: nn.Module, **named: nn.Module) -> CollisionNetwork:
    module = nn.Sequential(*layers)
    for name, part in named.items():
        module.add_module(name, part)
    network = CollisionNetwork(
        module, name="net", layer="act", input_size=4, mean=(0.25,), scale=(0.5,)
    )
    return network.in_float64()


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def with_function(function, width: int = 8) -> CollisionNetwork:
    """A function between the layer and the logits."""
    return network_of(
        nn.Flatten(),
        nn.Linear(16, 8),
        act=nn.ReLU(),
        odd=Function(function),
        out=nn.Linear(width, 3),
    )


FUNCTIONS = {
    "abs": torch.abs,
    "add a constant": lambda x: x + torch.arange(8.0, dtype=x.dtype),
    "amax": lambda x: x.reshape(-1, 4, 2).amax(2).repeat(1, 2),
    "chunk and cat": lambda x: torch.cat([*x.chunk(2, dim=1)][::-1], dim=1),
    "clamp to tensors": lambda x: x.clamp(torch.zeros(8).to(x), torch.ones(8).to(x)),
    "divide": lambda x: x / 3,
    "flip": lambda x: x.flip(1),
    "hardsigmoid": nn.functional.hardsigmoid,
    "in place": lambda x: (x + 1).mul_(2).sub_(x),
    "leaky, steep": lambda x: nn.functional.leaky_relu(x - 1, -0.5),
    "less than a constant": lambda x: 1 - x,
    "maximum": lambda x: torch.maximum(x, x.flip(1) - 1),
    "mean": lambda x: x - x.mean(dim=1, keepdim=True),
    "minimum with a constant": lambda x: torch.minimum(x, torch.full((8,), 0.5).to(x)),
    "negate": lambda x: -x,
    "pad": lambda x: nn.functional.pad(x[:, 1:-1], (1, 1), value=2.0),
    "power of products": lambda x: x @ torch.eye(8).to(x).flip(0),
    "stack": lambda x: torch.stack([x, 2 * x], dim=2).sum(dim=2),
    "threshold": lambda x: nn.functional.threshold(x, 0.5, 0.5),
    "turned product": lambda x: (torch.ones(8, 8).to(x).tril() @ x.T).T,
    "view": lambda x: x.view(-1, 2, 4).transpose(1, 2).reshape(-1, 8),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_gives_what_the_network_does(name):
    network = with_function(FUNCTIONS[name])
    program = read_program(network)
    images = torch.rand(3, 1, 1, 1, 4, 4).double()
    found = run_forward(program, Band.around(images), *program.outputs.values())
    output = network(images.flatten(0, 2))
    values = {
        PRE_ACTIVATION: output.pre_activation,
        FEATURES: output.pre_activation.clamp(min=0),
        LOGITS: output.logits,
    }
    for key, value in values.items():
        lower, upper = (end.flatten(1) for end in found[program.outputs[key]].ends())
        assert ((lower <= value) & (value <= upper)).all()
        assert float((upper - lower).max()) < 1e-10


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: x.softmax(dim=1), "softmax"),
        (lambda x: x * x, "mul of two values that both depend on the image"),
        (torch.exp, "exp"),
        (lambda x: x.sort(dim=1).values, "sort"),
        (lambda x: x / (1 + x), "div of what is divided by the image's values"),
        (lambda x: nn.functional.threshold(x, 1.0, 0.0), "threshold with another value"),
        (lambda x: nn.functional.leaky_relu(x - 1, 2.0), "leaky_relu with a slope above 1"),
        (lambda x: x.float().to(x), r"to_copy to torch.float32, which rounds"),
        (lambda x: x + x.max(dim=1, keepdim=True).indices, "max"),
    ],
)
def test_what_has_no_bound_is_refused_by_name_and_place(function, named):
    with pytest.raises(NetworkError, match=rf"no bound of {named}.* in 'odd' \(Function\)\. Netw"):
        read_program(with_function(function))


def test_what_depends_on_the_image_is_refused():
    network = with_function(lambda x: x if float(x.sum()) > 0 else 2 * x)
    message = re.escape("net cannot be bounded: its forward pass cannot be written down")
    with pytest.raises(NetworkError, match=message):
        read_program(network)


def test_a_layer_without_a_bend_before_it_is_affine_in_the_image():
    network = with_function(torch.abs)
    program = read_program(network)
    assert program.straight(program.outputs[PRE_ACTIVATION])
    assert not program.straight(program.outputs[LOGITS])
