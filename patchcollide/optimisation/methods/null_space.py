"""The null space: changes of a layer's input that its weights do not see.

The null space of the weights is found block by block.
"""

import logging
import time
from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.errors import NetworkError, TargetError
from patchcollide.formats import format_size
from patchcollide.images.tensors import flat
from patchcollide.networks.affine import ModuleMap, read_module_map
from patchcollide.networks.calls import Call
from patchcollide.networks.captures import captured_input
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import PIXELS, Trace
from patchcollide.optimisation.checkpoints import DescentState
from patchcollide.optimisation.methods.matching import match
from patchcollide.optimisation.methods.problem import Problem
from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.shapes import Float, Float64, Int64, Tensor, ndarray

logger = logging.getLogger(__name__)

MAX_BYTES = 2 << 30

_MOST_STEPS = 200

_MET = 1e-12

# Far below a step of 8 bits.
_ONE_IMAGE = 1e-4


@dataclass(frozen=True, eq=False)
class NullSpace:
    """The inputs of a layer that its weights cannot tell from a target.

    Attributes:
        target: The values of the input.
        blocks: For independent blocks: which inputs, and the subspace through the target that they
            may move in. Inputs in none are not seen at all.
    """

    target: Float64[ndarray, "inputs"]
    blocks: list[tuple[Int64[ndarray, "seen"], Subspace]]

    @property
    def dimension(self) -> int:
        """How many independent directions there are."""
        return len(self.target) - sum(len(part.normals) for _, part in self.blocks)

    def nearest(self, point: Float64[ndarray, "inputs"]) -> Float64[ndarray, "inputs"]:
        """Returns the nearest input of all, whatever its range."""
        moves = point - self.target
        for inputs, part in self.blocks:
            moves[inputs] = part.along(moves[None, inputs])[0]
        return np.asarray(self.target + moves)


def null_space_of(
    layer: ModuleMap, network: CollisionNetwork, max_bytes: int = MAX_BYTES
) -> NullSpace:
    """Returns the null space of a layer's weights, to the rounding of singular values.

    Args:
        layer: The weights.
        network: Named in errors.
        max_bytes: What the bases may take.

    Raises:
        NetworkError: If there is none, or its bases would be too large.
    """
    connections = layer.connections
    where = f"layer '{network.layer}' of {network.name}"
    sizes = connections.block_sizes()
    largest = max(8 * units * inputs for units, inputs in sizes)
    all_bases = connections.num_blocks * max(8 * min(size) * size[1] for size in sizes)
    needed = max(largest, all_bases)
    if needed > max_bytes:
        raise NetworkError(
            f"The null space of the weights of {where} takes up to {format_size(needed)} to find, "
            f"more than the {format_size(max_bytes)} that it may. Choose a smaller layer, or "
            "another --method."
        )
    blocks = []
    for block in connections.blocks():
        inputs = connections.inputs_of(block)
        blocks.append((inputs, Subspace.of(layer.matrix_of(block), layer.target[inputs])))
    space = NullSpace(layer.target, blocks)
    if not space.dimension:
        raise NetworkError(
            f"The weights of {where} ('{layer.module}') have no null space: "
            f"{connections.num_units} units read {connections.num_inputs} values, and the matrix "
            "has full column rank, so "
            "every change of its input is seen. Choose a layer with fewer units than inputs, or "
            "another --method."
        )
    return space


def nearest_in_range(
    space: NullSpace, point: Float64[ndarray, "inputs"]
) -> tuple[Float64[ndarray, "inputs"], float]:
    """Returns the nearest point in ``[0, 1]`` that a layer cannot tell from a target.

    Args:
        space: What the layer does not see, with a target in ``[0, 1]``.
        point: What to be near to.

    Returns:
        The point, and by how much the most it differs from the target in a direction that is seen,
        which rounding alone decides unless a descent ended early.
    """
    found, missed = np.clip(point, 0, 1), 0.0
    for inputs, part in space.blocks:
        found[inputs], error = _nearest(part.normals, part.origin, point[inputs])
        missed = max(missed, error)
    return found, missed


def _nearest(
    basis: Float64[ndarray, "rank inputs"],
    target: Float64[ndarray, "inputs"],
    point: Float64[ndarray, "inputs"],
) -> tuple[Float64[ndarray, "inputs"], float]:
    """Solves the dual by Newton's method: its gradient is piecewise linear in the multipliers.

    The nearest point is ``clip(point + basis.T @ multipliers)``, with multipliers for which it
    agrees with the target along the basis. The target itself does, so there always are some.
    """
    wanted = basis @ target
    multipliers = np.zeros(len(basis))

    def at(multipliers: ndarray) -> tuple[ndarray, ndarray, float]:
        free = point + multipliers @ basis
        found = np.clip(free, 0, 1)
        # The dual function, negated, is convex; its gradient is what is missed.
        height = 0.5 * (np.square(free) - np.square(free - found)).sum() - multipliers @ wanted
        return free, basis @ found - wanted, float(height)

    free, missed, height = at(multipliers)
    for _ in range(_MOST_STEPS):
        if abs(missed).max(initial=0.0) <= _MET:
            break
        moving = basis[:, (free > 0) & (free < 1)]
        matrix = moving @ moving.T
        # Where most values are at their ends the matrix is singular; the more the less is missed.
        matrix[np.diag_indices_from(matrix)] += min(1e-4, float(np.linalg.norm(missed)) * 1e-3)
        step = -np.linalg.solve(matrix, missed)
        length = 1.0
        while length > 1e-10:
            tried = at(multipliers + length * step)
            if tried[2] <= height + 1e-4 * length * (step @ missed) or (
                np.linalg.norm(tried[1]) < 0.5 * np.linalg.norm(missed)
            ):
                break
            length /= 2
        multipliers = multipliers + length * step
        free, missed, height = tried
    return np.clip(free, 0, 1), float(abs(missed).max(initial=0.0))


def vary_null_space(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Moves the target as near to the source as the null space of a layer's weights lets it.

    The layer computes ``W h + b`` of what precedes it. Adding to ``h(t)`` anything of the null
    space of ``W`` changes no unit, active or not, so the goal is ``h(t) + P (h(s) - h(t))``, with
    ``P`` the projection onto the null space and ``s`` the start. Where ``h`` is the image itself,
    the goal is the answer but for its range, so the nearest image to ``s`` is found among those of
    ``t`` plus the null space in ``[0, 1]``, and features are equal up to rounding. Further up,
    images are sought whose ``h`` is the goal, by gradient descent; nothing says that there are any,
    for one because ``h`` may have to be negative where an activation made it.

    Raises:
        NetworkError: If the layer is not affine in a module's input, its matrix is too large, or
            its weights have no null space.
        TargetError: If the target was given as features alone.

    Source:
        Ozbulak, Gasparyan, Rao, De Neve and Van Messem, "Exact Feature Collisions in Neural
        Networks", 2022, for collisions by the null space of weights. Which of its directions to
        take is ours: the one towards the source. So is the way back into the range, for they do not
        ask for the nearest image.
    """
    if problem.target.picture is None:
        raise TargetError(
            "method = 'null_space' moves the target's image, but only its features were given. "
            "Give --target an image."
        )
    layer = _read(problem.network, problem.target.picture)
    space = null_space_of(layer, problem.network)
    starts = problem.parameterisation.images().detach()
    if layer.input_kind == PIXELS:
        return _nearest_colliding(space, starts)
    start = _inputs(problem.network, layer.module, starts[:1])[0].cpu().double().numpy()
    values = torch.from_numpy(space.nearest(start)).to(starts)
    return match(problem, lambda images: _inputs(problem.network, layer.module, images), values)


def _read(network: CollisionNetwork, picture: np.ndarray) -> ModuleMap:
    shape = (1, network.channels, network.input_size, network.input_size)
    image = torch.from_numpy(flat(picture)).reshape(shape)
    try:
        trace = Trace(network.in_float64().to("cpu"), image, [network.layer])
        return read_module_map(trace, network.layer)
    except NetworkError as error:
        raise NetworkError(
            f"method = 'null_space' needs a layer that is affine in a module's input, but layer "
            f"'{network.layer}' of {network.name} is not: {error}. Choose another layer or method."
        ) from error


def _inputs(
    network: CollisionNetwork, module: str, images: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch inputs"]:
    """Returns what goes into a module, differentiable."""
    captured: list[Tensor] = []
    part = Call(module, module, network.module.get_submodule(module))
    with captured_input(network.module, part, captured.append, and_stop=True):
        network(images)
    return captured[0].flatten(1)


def _nearest_colliding(
    space: NullSpace, starts: Float[Tensor, "vertices channels height width"]
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    points = starts.flatten(1).cpu().double().numpy()
    images, history = np.empty_like(points), []
    for number, point in enumerate(points):
        began = time.perf_counter()
        images[number], missed = nearest_in_range(space, point)
        seconds = time.perf_counter() - began
        history.append({"step": float(number), "missed": missed, "seconds": seconds})
    if np.abs(images - space.target).max(initial=0.0) < _ONE_IMAGE:
        logger.warning(
            "all images are the target: nothing else in range has the same pre-activation in every "
            "unit. Let inactive units vary with --method polytope, or `patchcollide exact`."
        )
    state = DescentState(len(history), history=history)
    state.stopped_because = "each image is the nearest one that collides exactly"
    return torch.from_numpy(images).to(starts).reshape(starts.shape), state
