"""A real layer whose inputs are two numbers: everything about its polytope can be drawn.

A network for digits passes all it knows of a picture through two numbers; the layer of eight ReLU
units behind them is what is studied. The target is a test digit that activates none of them, so its
active set is empty, and the polytope of all points at which all eight stay inactive is everything
that collides with it.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.images.digits import read_digits
from patchcollide.images.tensors import as_batch
from patchcollide.networks.models.digit_networks import CLASS_NAMES, INPUT_SIZE
from patchcollide.networks.models.training import train_module
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.image_spaces import WholeSpace
from patchcollide.shapes import Bool, Float64, Int64, ndarray
from patchcollide.torch_modes import proof_modes

EPOCHS = 40

LARGEST_STEP = 1e-2

NUM_UNITS = 8

BOTTLENECK = "norm"

LAYER = "fc3"

_STEEPNESS = 3.0


@dataclass(frozen=True, eq=False)
class PlanarLayer:
    """A layer ``matrix @ point + offset`` over a plane, and where test digits lie in it.

    Attributes:
        matrix: Of the units.
        offset: Of the units.
        points: Of the test digits: the two inputs of the layer.
        labels: Of the test digits, 0 to 9.
        correct: Which of them the network classifies right.
        target: The number of the test digit to collide with.
    """

    matrix: Float64[ndarray, "units 2"]
    offset: Float64[ndarray, "units"]
    points: Float64[ndarray, "digits 2"]
    labels: Int64[ndarray, "digits"]
    correct: Bool[ndarray, "digits"]
    target: int

    @property
    def polytope(self) -> ExactPolytope:
        """All points at which no unit is active: those that collide with the target."""
        nothing = np.full(len(self.offset), -np.inf)
        return ExactPolytope(
            self.matrix, self.offset, nothing, np.zeros(len(self.offset)), WholeSpace(2)
        )


@proof_modes(grad=True)
def train_planar_layer(seed: int, epochs: int = EPOCHS) -> PlanarLayer:
    """Trains the network on scikit-learn's digits, in seconds, and reads its layer in float64.

    Args:
        seed: Of the first weights and the order of the digits; the same seed gives the same layer
            on the same machine with the same number of threads.
        epochs: Passes over the digits.

    Raises:
        MissingLibraryError: If scikit-learn is not installed.
        NetworkError: If no test digit can be the target; see :func:`choose_target`.
    """
    test = read_digits(None, "test")
    module = train_module(
        build_planar_network(seed),
        read_digits(None, "train"),
        test,
        epochs=epochs,
        seed=seed,
        largest_step=LARGEST_STEP,
    ).module.double()
    seen: list[torch.Tensor] = []
    module.get_submodule(BOTTLENECK).register_forward_hook(lambda _, __, out: seen.append(out))
    pixels = as_batch(test.images, torch.float64)
    layer: Any = module.get_submodule(LAYER)
    with torch.no_grad():
        answers = module(pixels).argmax(dim=1).numpy()
        matrix, offset = layer.weight.numpy().copy(), layer.bias.numpy().copy()
    points, correct = seen[0].numpy(), answers == test.labels
    target = choose_target(points @ matrix.T + offset, matrix, correct)
    return PlanarLayer(matrix, offset, points, test.labels, correct, target)


def choose_target(
    z: Float64[ndarray, "digits units"],
    matrix: Float64[ndarray, "units 2"],
    correct: Bool[ndarray, "digits"],
) -> int:
    """Chooses the digit that is farthest within the polytope: from the line nearest to it.

    Args:
        z: Pre-activations of the digits.
        matrix: Of the layer; gives distances their scale.
        correct: Which digits the network classifies right: one of these is chosen.

    Raises:
        NetworkError: If none of these leaves all units inactive.
    """
    outside = (z / np.linalg.norm(matrix, axis=1)).max(axis=1)
    outside = np.where(correct, outside, np.inf)
    target = int(outside.argmin())
    if not outside[target] < 0:
        raise NetworkError(
            f"Of {len(z)} test digits none is classified right with all {len(matrix)} units "
            "inactive, so none can be the target. Train with another --seed."
        )
    return target


def build_planar_network(seed: int) -> nn.Module:
    """Returns 784-64-2-8-10 with ReLUs but at the bottleneck, untrained.

    The two numbers are normalised over the batch: about 1 in size. The lines of the eight units
    that see them start around the unit circle, blind within it, so that some digits can come to
    activate none; as PyTorch draws them, the lines pass near the origin, and every digit activates
    some. All else is as PyTorch draws it.

    Args:
        seed: Of the weights; torch's global generators are left as they are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                fc1=nn.Linear(INPUT_SIZE**2, 64),
                act1=nn.ReLU(),
                fc2=nn.Linear(64, 2),
                norm=nn.BatchNorm1d(2, affine=False),
                fc3=nn.Linear(2, NUM_UNITS),
                act3=nn.ReLU(),
                fc4=nn.Linear(NUM_UNITS, len(CLASS_NAMES)),
            )
        )
        angles = 2 * math.pi * (torch.arange(NUM_UNITS) + torch.rand(())) / NUM_UNITS
    layer: Any = module.get_submodule(LAYER)
    with torch.no_grad():
        layer.weight.copy_(_STEEPNESS * torch.stack([angles.cos(), angles.sin()], dim=1))
        layer.bias.fill_(-_STEEPNESS)
    return module
