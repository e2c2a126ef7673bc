"""Vertices and extents of a target's exact polytope, at a layer that is affine in the image."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from patchcollide.config import Config, Exact
from patchcollide.errors import TargetError
from patchcollide.evaluation.measures import attempt
from patchcollide.evaluation.summary import (
    ExactFigures,
    ExactRecord,
    Extents,
    PixelWidths,
)
from patchcollide.images.tensors import flat
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.affine import ImageMap, read_image_map
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.optimisation.units import driven_units
from patchcollide.optimisation.vertices import FoundVertices, mixing_space
from patchcollide.polyhedra.exact_polytope import ExactPolytope, Vertex
from patchcollide.polyhedra.extents import find_chebyshev_centre, find_far_pair, find_most_changed
from patchcollide.polyhedra.image_spaces import PixelBox, Space, WholeSpace
from patchcollide.polyhedra.proposition1 import examine
from patchcollide.progress import track
from patchcollide.randomness import Purpose, seeded_numpy
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.shapes import Float32, Float64, ndarray

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TargetPolytope:
    """A target and the exact polytope of what collides with it.

    Attributes:
        image: The target, flat in channel, height, width order, in ``[0, 1]``.
        features: Its features in float64, and each unit's interval.
        polytope: All images of the space that collide with it.
        layer: What the polytope was made of.
    """

    image: Float64[ndarray, "values"]
    features: TargetFeatures
    polytope: ExactPolytope
    layer: ImageMap


def target_polytope(
    config: Config, network: CollisionNetwork, target: Target, neighbours: Neighbours | None
) -> TargetPolytope:
    """Sets up the polytope of a target.

    Args:
        config: Sections ``composition`` and ``exact``.
        network: The network, and a layer that is affine in the image.
        target: An image.
        neighbours: What images are composed of; None for free pixels.

    Raises:
        NetworkError: If the layer is not affine in the image, or too large.
        TargetError: If the target is given as features.
        GeometryError: If compositions of these settings are not affine in their coefficients.
    """
    if target.picture is None:
        raise TargetError(
            "An exact polytope is measured from the image that it collides with, but the target is "
            "given as features. Give the image."
        )
    image = flat(target.picture)
    space: Space
    if neighbours is not None:
        space = mixing_space(config, network, neighbours)
    elif config.exact.space == "anything":
        space = WholeSpace(len(image))
    else:
        space = PixelBox(len(image))
    return target_polytope_in(read_image_map(network), network.blind, image, space)


def target_polytope_in(
    layer: ImageMap, blind: BlindRegions, image: Float64[ndarray, "values"], space: Space
) -> TargetPolytope:
    """Sets up the polytope of an image at a layer that was read before.

    Args:
        layer: Affine in the image.
        blind: Where its activation is constant.
        image: As :func:`flat` gives it.
        space: Where what collides with it is looked for.

    Raises:
        NetworkError: If the network gives something else at the image than the layer.
    """
    layer.require_right(image[None], "the target")
    pre_activation = torch.from_numpy(layer.matrix @ image + layer.offset)
    features = TargetFeatures.of(pre_activation, blind)
    lower, upper = features.lower.numpy(), features.upper.numpy()
    polytope = ExactPolytope(layer.matrix, layer.offset, lower, upper, space)
    return TargetPolytope(image, features, polytope, layer)


def solve_vertices(
    config: Config, network: CollisionNetwork, target: Target, neighbours: Neighbours | None
) -> tuple[TargetPolytope, list[Vertex], ExactRecord]:
    """Finds the vertices of a target's polytope, and says how exactly they collide.

    Extents are not measured yet. Arguments and errors as of :func:`target_polytope` and
    :func:`find_exact_vertices`.
    """
    begun = time.perf_counter()
    exact = target_polytope(config, network, target, neighbours)
    vertices = find_exact_vertices(config, exact)
    figures = describe_vertices(exact, vertices)
    seconds = time.perf_counter() - begun
    return exact, vertices, {**figures, "seconds": seconds, "extents": None}


def find_exact_vertices(config: Config, exact: TargetPolytope) -> list[Vertex]:
    """Finds the vertices that section ``exact`` asks for.

    Raises:
        TargetError: If there are fewer inactive units than vertices, where each needs one.
        InfeasibleError: If nothing in the space collides; says which constraints clash.
        UnboundedError: If the polytope has no end where one was looked for.
        NetworkError: If the network gives something else at a vertex than the layer.
    """
    vertices = _vertices(config, exact)
    exact.layer.require_right(np.stack([vertex.image for vertex in vertices]), "vertices")
    return vertices


def _vertices(config: Config, exact: TargetPolytope) -> list[Vertex]:
    count, polytope = config.optimiser.num_vertices, exact.polytope
    rng = seeded_numpy(config.seed, Purpose.EXACT_VERTICES)
    if config.exact.vertices == "far":
        return _far_vertices(polytope, count, rng)
    if config.exact.vertices == "random":
        directions = rng.standard_normal((count, len(exact.image)))
    else:
        chosen = driven_units(config, exact.features, exact=True).numpy()
        if not len(chosen):
            raise TargetError(
                "exact.vertices = 'unit' drives a unit for each vertex, but objective.units = "
                "'none' names none. Set exact.vertices = 'random' or 'far', or other units."
            )
        directions = polytope.inwards(chosen)
    solved = track(directions, "Solving linear programs", len(directions))
    return [polytope.minimise(direction) for direction in solved]


def _far_vertices(polytope: ExactPolytope, count: int, rng: np.random.Generator) -> list[Vertex]:
    """Finds two ends far apart, then always what is far from the middle of those found."""
    pair = find_far_pair(polytope, rng)
    vertices = [pair.first, pair.second]
    while len(vertices) < count:
        middle = np.mean([vertex.image for vertex in vertices], axis=0)
        vertices.append(find_most_changed(polytope, middle, rng).vertex)
    return vertices[:count]


def describe_vertices(exact: TargetPolytope, vertices: Sequence[Vertex]) -> ExactFigures:
    """Says how exactly vertices collide, and that they are vertices."""
    return {
        "num_variables": exact.polytope.space.num_variables,
        "active": int(exact.features.active.sum()),
        "inactive": int((~exact.features.active).sum()),
        "violation_max": max(vertex.violation for vertex in vertices),
        "vertices": [
            {
                "value": vertex.value,
                "violation": vertex.violation,
                "tight_constraints": vertex.tight_rank,
                "is_vertex": vertex.is_vertex,
            }
            for vertex in vertices
        ],
    }


def as_found(network: CollisionNetwork, vertices: Sequence[Vertex]) -> FoundVertices:
    """Returns vertices as a descent gives them, with a row of the history for each.

    Raises:
        TargetError: If they are no images of 0 to 1.
    """
    return FoundVertices(
        unrounded=vertex_images(network, vertices),
        state={"steps": len(vertices), "stopped_because": "each vertex is a solved linear program"},
        history=[
            {"step": float(number), "minimum": vertex.value, "violation": vertex.violation}
            for number, vertex in enumerate(vertices)
        ],
        contributions=None,
    )


def vertex_images(
    network: CollisionNetwork, vertices: Sequence[Vertex]
) -> Float32[ndarray, "vertices height width channels"]:
    """Returns vertices as images of 0..255.

    Raises:
        TargetError: If they leave this range.
    """
    shape = (network.channels, network.input_size, network.input_size)
    stacked = np.stack([vertex.image.reshape(shape) for vertex in vertices])
    if stacked.min() < -1e-9 or stacked.max() > 1 + 1e-9:
        raise TargetError(
            f"Vertices reach from {stacked.min():.3g} to {stacked.max():.3g}, so they are no "
            "images of 0 to 1. Set exact.space = 'range'."
        )
    images = 255 * np.clip(stacked, 0, 1).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images, np.float32)


def measure_extents(settings: Exact, exact: TargetPolytope, seed: int) -> Extents:
    """Measures how far a polytope reaches; what fails is noted, and the rest measured."""
    polytope, begun = exact.polytope, time.perf_counter()
    rng = seeded_numpy(seed, Purpose.EXTENTS)
    measures: dict[str, Callable[[], Any]] = {}
    if isinstance(polytope.space, PixelBox):
        span = polytope.space.low, polytope.space.high
        measures = {
            "theory": lambda: _measure_theory(exact, span),
            "ball_radius": lambda: 255 * find_chebyshev_centre(polytope).radius,
        }
    measures |= {
        "pixel_widths": lambda: _measure_widths(settings, exact),
        "far_pair": lambda: 255 * find_far_pair(polytope, rng).distance,
        "most_changed": lambda: 255 * find_most_changed(polytope, exact.image, rng).distance,
    }
    missing: dict[str, str] = {}
    found = {name: attempt(name, measure, missing) for name, measure in measures.items()}
    theory = found.pop("theory", None) or {}
    measured = {
        **theory,
        **found,
        **({"not_measured": missing} if missing else {}),
        "seconds": time.perf_counter() - begun,
    }
    return cast(Extents, measured)


def _measure_theory(
    exact: TargetPolytope, span: tuple[float, float]
) -> dict[str, int | bool | None]:
    polytope = exact.polytope
    bounds = polytope.lower, polytope.upper
    found = examine(polytope.matrix, polytope.offset, *bounds, exact.image, input_range=span)
    return {
        "dimension": found.dimension,
        "dimension_bound": found.bound,
        "kernel_within": found.kernel_within,
    }


def _measure_widths(settings: Exact, exact: TargetPolytope) -> PixelWidths:
    count = min(settings.width_pixels, len(exact.image))
    pixels = np.linspace(0, len(exact.image) - 1, count).round().astype(np.int64)
    widths = 255 * exact.polytope.pixel_widths(pixels)
    return {
        "num_pixels": count,
        "mean": float(widths.mean()),
        "min": float(widths.min()),
        "max": float(widths.max()),
    }
