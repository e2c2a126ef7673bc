"""Null-space search: changes of a layer's input that its weights do not see."""

import logging
import time

import numpy as np
import torch

from patchcollide.errors import NetworkError, TargetError
from patchcollide.layer_inputs import PIXELS, Trace
from patchcollide.layer_maps import LayerMap, read_layer_map
from patchcollide.methods.matching import match
from patchcollide.methods.null_spaces import NullSpace, nearest_in_range, null_space_of
from patchcollide.methods.problems import Problem
from patchcollide.networks import CollisionNetwork
from patchcollide.optimise import SearchState
from patchcollide.shapes import Float, Float64, Tensor, ndarray

logger = logging.getLogger(__name__)

# Far below a step of 8 bits.
_ONE_IMAGE = 1e-4


def search_null_space(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], SearchState]:
    """Moves the target as near to the source as the null space of a layer's weights lets it.

    The layer computes ``W h + b`` of what precedes it. Adding to ``h(t)`` anything of the null
    space of ``W`` changes no unit, active or not, so the goal is ``h(t) + P (h(s) - h(t))``, with
    ``P`` the projection onto the null space and ``s`` the start. Where ``h`` is the image itself,
    the goal is the answer but for its range, so the nearest image to ``s`` is found among those of
    ``t`` plus the null space in ``[0, 1]``, and the collision is exact to rounding. Further up,
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
        return _exactly(space, layer.target, starts)
    start = _inputs(problem.network, layer.module, starts[:1])[0].cpu().double().numpy()
    goal = layer.target + space.along((start - layer.target)[None])[0]
    values = torch.from_numpy(goal).to(starts)
    return match(problem, lambda images: _inputs(problem.network, layer.module, images), values)


def _read(network: CollisionNetwork, picture: np.ndarray) -> LayerMap:
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].double() / 255
    try:
        trace = Trace(network.in_float64().to("cpu"), image, [network.layer])
        return read_layer_map(trace, network.layer)
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
    hook = network.module.get_submodule(module).register_forward_pre_hook(
        lambda _, args, kwargs: captured.append(next(iter((*args, *kwargs.values()))).flatten(1)),
        with_kwargs=True,
    )
    try:
        network(images)
    finally:
        hook.remove()
    return captured[0]


def _exactly(
    space: NullSpace,
    target: Float64[ndarray, "values"],
    starts: Float[Tensor, "vertices channels height width"],
) -> tuple[Float[Tensor, "vertices channels height width"], SearchState]:
    points = starts.flatten(1).cpu().double().numpy()
    images, history = np.empty_like(points), []
    for number, point in enumerate(points):
        began = time.perf_counter()
        images[number], missed = nearest_in_range(space, target, point)
        seconds = time.perf_counter() - began
        history.append({"step": float(number), "missed": missed, "seconds": seconds})
    if np.abs(images - target).max(initial=0.0) < _ONE_IMAGE:
        logger.warning(
            "all images are the target: nothing else in range has the same pre-activation in every "
            "unit. Let inactive units vary with --method polytope, or `patchcollide exact`."
        )
    state = SearchState(len(history), history=history)
    state.stopped_because = "each image is the nearest one that collides exactly"
    return torch.from_numpy(images).to(starts).reshape(starts.shape), state
