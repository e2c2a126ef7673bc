"""In boxes around images, features behind an affine layer are no further off than is bounded."""

import itertools

import pytest
import torch
from torch import nn

from patchcollide.networks.network import CollisionNetwork
from patchcollide.proofs.boxes import largest_distance_in_boxes
from patchcollide.proofs.programs import Program
from patchcollide.proofs.tracing import PRE_ACTIVATION, read_program
from patchcollide.shapes import Tensor


def layer_of(generator: torch.Generator, units: int) -> tuple[Program, Tensor, Tensor]:
    """One layer of four pixels, as a program and as a matrix."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    network = CollisionNetwork(
        module, name="net", layer="2", input_size=2, mean=(0.0,), scale=(1.0,)
    )
    weight, offset = (module.get_parameter(f"1.{name}").detach() for name in ("weight", "bias"))
    return read_program(network.in_float64()), weight.double(), offset.double()


@pytest.mark.parametrize("units", [3, 12])
@pytest.mark.parametrize("radius", [0.002, 0.05, 0.5])
def test_the_bound_is_above_all_corners_of_boxes_and_as_near_as_squares_are(
    units, radius, generator
):
    """The square is convex in both, so largest where a box around a vertex has a corner."""
    program, weight, offset = layer_of(generator, units)
    radii = radius * torch.tensor([1.0, 1.0, 0.0, 1.0]).double()
    moves = radii * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4))).double()
    for _ in range(10):
        images = torch.rand(3, 4, generator=generator).double()
        wanted = torch.relu(torch.rand(4, generator=generator).double() @ weight.T + offset)
        values = (images[:, None] + moves) @ weight.T + offset
        convex = torch.where(wanted > 0, values - wanted, values.clamp(min=0))
        largest = float(convex.norm(dim=2).max())
        found = largest_distance_in_boxes(
            program,
            program.outputs[PRE_ACTIVATION],
            images.reshape(3, 1, 1, 2, 2),
            radii.reshape(1, 1, 2, 2),
            1e-15,
            wanted,
        )
        assert float((torch.relu(values) - wanted).norm(dim=2).max()) <= largest * (1 + 1e-12)
        assert largest <= found
        # Beyond the largest there is at most what the second terms are bounded by.
        second = 3 * float(torch.linalg.matrix_norm(weight * radii, 2)) ** 2
        assert found**2 <= largest**2 + second + 1e-9


def test_between_equal_images_without_a_box_it_is_their_distance(generator):
    program, weight, offset = layer_of(generator, 5)
    image = torch.rand(1, 4, generator=generator).double()
    wanted = torch.relu(torch.rand(4, generator=generator).double() @ weight.T + offset)
    found = largest_distance_in_boxes(
        program,
        program.outputs[PRE_ACTIVATION],
        image.reshape(1, 1, 1, 2, 2),
        torch.zeros(1, 1, 2, 2).double(),
        0.0,
        wanted,
    )
    values = image @ weight.T + offset
    majorant = torch.where(wanted > 0, values - wanted, torch.relu(values))
    assert found == pytest.approx(float(majorant.norm()), rel=1e-9)
