"""How large the polytope of one image is, at a price that can be paid for many images."""

import logging
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from patchcollide.audit.documents import Figures
from patchcollide.config import Config
from patchcollide.errors import NetworkError
from patchcollide.evaluation.feature_distances import as_share, feature_distances, feature_scale
from patchcollide.evaluation.gaps import finite
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.evaluation.visibility import measure_visibility
from patchcollide.images.tensors import as_batch, as_pictures, flat, pairwise_distances
from patchcollide.networks.affine import ImageMap, read_image_map
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, TargetFeatures, excess
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.exact import target_polytope_in
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from patchcollide.polyhedra.image_spaces import PixelBox
from patchcollide.randomness import Purpose, seeded, seeded_numpy
from patchcollide.shapes import Float, Tensor, UInt8, ndarray

logger = logging.getLogger(__name__)


@runtime_checkable
class VertexFinder(Protocol):
    """Finds a few vertices of an image's polytope, the same way for every image.

    Attributes:
        method: ``exact`` or ``search``.
    """

    method: str

    def find(
        self, picture: UInt8[ndarray, "height width channels"]
    ) -> Float[Tensor, "vertices channels height width"]:
        """Returns vertices, in ``[0, 1]``."""
        ...


class ExactFinder:
    """Vertices by linear programs, in random directions that are the same for every image.

    Args:
        config: Section ``audit``, and the seed.
        network: The network under study.
        layer: Its layer, affine in the image.
    """

    method = "exact"

    def __init__(self, config: Config, network: CollisionNetwork, layer: ImageMap) -> None:
        self._network, self._layer = network, layer
        rng = seeded_numpy(config.seed, Purpose.AUDIT_DIRECTIONS)
        shape = (config.audit.num_vertices, layer.matrix.shape[1])
        self._directions = rng.standard_normal(shape)

    def find(
        self, picture: UInt8[ndarray, "height width channels"]
    ) -> Float[Tensor, "vertices channels height width"]:
        """See :meth:`VertexFinder.find`.

        Raises:
            ProgramError: If a linear program cannot be solved.
            NetworkError: If the network gives something else at a vertex than the layer.
        """
        image = flat(picture)
        exact = target_polytope_in(self._layer, self._network.blind, image, PixelBox(len(image)))
        found = [exact.polytope.minimise(direction).image for direction in self._directions]
        self._layer.require_right(np.stack(found), "vertices")
        height, width, channels = picture.shape
        return torch.from_numpy(np.reshape(found, (-1, channels, height, width)))


class DescentFinder:
    """Vertices by a descent over pixels from the image itself, with the same steps for every image.

    Only their distance parts the vertices, so that no image has too few blind units; its weight
    does not change on the way, and no descent ends early.

    Args:
        config: Sections ``audit``, ``objective`` and ``optimiser``, and the seed.
        network: The network under study.
    """

    method = "search"

    def __init__(self, config: Config, network: CollisionNetwork) -> None:
        steps = config.audit.steps
        fixed = {
            "num_vertices": config.audit.num_vertices,
            "steps": steps,
            "check_every": steps,
            "validation_samples": 1,
        }
        self._network = network
        self._config = config.model_copy(
            update={
                "objective": config.objective.model_copy(update={"units": "none"}),
                "optimiser": config.optimiser.model_copy(update=fixed),
            }
        )

    def find(
        self, picture: UInt8[ndarray, "height width channels"]
    ) -> Float[Tensor, "vertices channels height width"]:
        """See :meth:`VertexFinder.find`.

        Raises:
            DivergedError: If the loss is infinite or not a number.
            InterruptedWorkError: If the user asked to stop.
        """
        target = Target.of_picture(self._network, picture)
        task = make_task(self._config, self._network, target)
        start = make_parameterisation(self._config, self._network, picture, None)
        vertices, _ = find_vertices(task, start)
        return vertices.cpu()


def choose_finder(config: Config, network: CollisionNetwork) -> VertexFinder:
    """Returns what ``audit.method`` asks for.

    Raises:
        NetworkError: If linear programs are asked for at a layer that is not affine in the image,
            or too large.
    """
    if config.audit.method == "search":
        return DescentFinder(config, network)
    try:
        return ExactFinder(config, network, read_image_map(network))
    except NetworkError as error:
        if config.audit.method == "exact":
            raise
        logger.info("Sizes are of a descent, not of exact polytopes. %s", error)
        return DescentFinder(config, network)


@dataclass(frozen=True, eq=False)
class MeasuredPolytope:
    """What is known of one image's polytope.

    Attributes:
        figures: See :func:`measure_polytope`.
        vertices: To 8 bits.
    """

    figures: Figures
    vertices: UInt8[ndarray, "vertices height width channels"]


def measure_polytope(
    config: Config,
    network: CollisionNetwork,
    finder: VertexFinder,
    picture: UInt8[ndarray, "height width channels"],
    label_class: int | None,
) -> MeasuredPolytope:
    """Measures the polytope of what collides with an image, by a few of its vertices.

    ``size`` is the mean L2 distance of two vertices in 0..255, less what the features of points
    between them differ: ``vertex_distance * (1 - feature_distance_relative)``, at least 0. Between
    exact vertices features differ by no more than the activation's tolerance allows; a descent with
    a fixed number of steps gets farther, or leaves a smaller difference, where the polytope is
    larger. It is a lower bound neither of the polytope's diameter nor of what more steps would
    find. Of an image to which no unit responds, whose features are no scale, it is less what they
    differ as a share of how far its units are from responding.

    Args:
        config: Sections ``audit`` and ``evaluation``, and the seed.
        network: The network under study.
        finder: Finds the vertices.
        picture: The image.
        label_class: The network's class that the image should have, if that is known.
    """
    target = Target.of_picture(network, picture)
    features = TargetFeatures.of(target.pre_activation.to(network.device), network.blind)
    vertices = finder.find(picture)
    with torch.no_grad():
        own = network.probabilities(as_batch(picture[None]))[0]
    hull, difference = _between(config, network, features, vertices)
    distance = float(pairwise_distances(vertices).mean())
    rounded = as_pictures(vertices)
    visible = measure_visibility(rounded)
    figures: Figures = {
        "predicted": target.class_index,
        "predicted_name": target.class_name,
        "probability": target.probability,
        "margin": target.margin,
        "label_class": label_class,
        "label_probability": None if label_class is None else float(own[label_class]),
        "size": distance * max(0.0, 1 - float(difference / _scale(features))),
        "vertex_distance": distance,
        "feature_distance_relative": finite(float(as_share(difference, feature_scale(features)))),
        "hull_agreement": float((hull.argmax(dim=1) == target.class_index).double().mean()),
        "hull_probability": float(hull[:, target.class_index].mean()),
        "hull_label_probability": None
        if label_class is None
        else float(hull[:, label_class].mean()),
        "visible_share": visible["visible_share"],
        "coarse_share": visible["coarse_share"],
        "ssim_mean": visible["ssim_mean"],
        "active": int(features.active.sum()),
    }
    return MeasuredPolytope(figures, rounded)


def _between(
    config: Config,
    network: CollisionNetwork,
    features: TargetFeatures,
    vertices: Float[Tensor, "vertices channels height width"],
) -> tuple[Float[Tensor, "samples classes"], Float[Tensor, ""]]:
    """Returns the probabilities of points between vertices, and how far their features are off."""
    weights = uniform_weights(
        config.audit.hull_samples, len(vertices), seeded(config.seed, Purpose.HULL)
    )
    chances, differences = [], []
    with torch.no_grad():
        for part in torch.split(weights, config.evaluation.batch_size):
            output = network(combine(part, vertices.double()).float())
            chances.append(output.probabilities)
            differences.append(feature_distances(output.pre_activation, features))
    return torch.cat(chances).double(), torch.cat(differences).mean()


def _scale(features: TargetFeatures) -> Float[Tensor, ""]:
    """Returns what differences of features are a share of, above zero."""
    scale = feature_scale(features)
    if not scale > 0:
        scale = torch.linalg.vector_norm(excess(features.pre_activation[None], features))
    return scale.clamp(min=torch.finfo(scale.dtype).tiny)
