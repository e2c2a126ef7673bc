"""What a vertex minimises, and its gradient.

With ``z`` a pre-activation and ``t`` the target's, each unit has an interval around ``t`` in which
the activation takes ``z`` for the same. Units fall into three groups by it: active ones, whose
interval is bounded (without a tolerance it is ``t`` alone), and blind ones, with no lower end or no
upper one. Losses are pure functions of pre-activations and images; the gradient of a step goes
through the network in as many passes as memory wants.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Objective
from patchcollide.errors import OutOfMemoryError
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.images.tensors import pairwise_distances
from patchcollide.networks.targets import TargetFeatures, active_residuals, excess
from patchcollide.optimisation.stopping import VertexSearch
from patchcollide.shapes import Float, Int64, Tensor

logger = logging.getLogger(__name__)


def active_loss(z: Float[Tensor, "batch units"], target: TargetFeatures) -> Float[Tensor, "batch"]:
    """Half the squared distance to the intervals of the active units: without a tolerance, L+.

    Departs from the paper where there is a tolerance, which it does not have.
    """
    return active_residuals(z, target).square().sum(dim=1) / 2


def inactive_hinge_loss(
    z: Float[Tensor, "batch units"], target: TargetFeatures
) -> Float[Tensor, "batch"]:
    """Sum of what blind units show: exactly what a collision asks of them.

    Departs from the paper, which asks more; see :func:`inactive_absolute_loss`.
    """
    return excess(z, target).clamp(min=0).sum(dim=1)


def inactive_absolute_loss(
    z: Float[Tensor, "batch units"],
    target: TargetFeatures,
    units: Int64[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """The sum over ``j != i`` of ``|z_j|`` in the paper's L-_i: holds all blind units but one at 0.

    Args:
        z: Pre-activations of the vertices.
        target: Decides which units are blind.
        units: Unit ``i`` of each vertex, which is left out.
    """
    magnitudes = excess(z, target).abs()
    return magnitudes.sum(dim=1) - magnitudes.gather(1, units[:, None])[:, 0]


def unit_loss(
    z: Float[Tensor, "batch units"],
    target: TargetFeatures,
    units: Int64[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """``z_i``, the first term of the paper's L-_i: drives unit ``i`` of each vertex deeper."""
    return excess(z, target).gather(1, units[:, None])[:, 0]


class StepLoss:
    """The objective of a search: its value and gradient, step by step.

    Every step asks for the losses of the vertices *and* of fresh random points between them:
    vertices can all be inside the polytope to a tolerance when what lies between them is not.

    Args:
        search: What to do.
    """

    def __init__(self, search: VertexSearch) -> None:
        self._search = search
        self._images_per_pass = search.optimiser.num_vertices + search.objective.hull_samples

    def backward(
        self, parameterisation: Parameterisation, objective: Objective, generator: torch.Generator
    ) -> dict[str, float]:
        """Adds the gradient of the loss to the parameter's.

        Args:
            parameterisation: Where the images come from.
            objective: The weights of this step.
            generator: Draws the hull samples.

        Returns:
            The loss and its terms: means over the vertices, the hull samples or the pairs.

        Raises:
            OutOfMemoryError: If not even one image fits through the network.
        """
        images = parameterisation.images()
        batch = images
        if objective.hull_samples and len(images) > 1:
            weights = uniform_weights(objective.hull_samples, len(images), generator)
            batch = torch.cat([images, combine(weights.to(images.device), images)])
        terms, gradient = self._through_network(batch.detach(), len(images), objective)
        row = _means(terms)
        loss = _weighted(terms, objective)
        # Its gradient in the images is that of the network's part; its value means nothing.
        surrogate = (batch * gradient).sum()
        distances = pairwise_distances(images)
        if len(distances):
            surrogate = surrogate - objective.diversity * distances.mean()
            row["distance"] = float(distances.detach().mean())
            loss -= objective.diversity * row["distance"]
        row["total_variation"] = 0.0
        if objective.total_variation:
            roughness = parameterisation.roughness()
            surrogate = surrogate + objective.total_variation * roughness
            row["total_variation"] = float(roughness.detach())
            loss += objective.total_variation * row["total_variation"]
        surrogate.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss, **row}

    def _through_network(
        self,
        batch: Float[Tensor, "batch channels height width"],
        num_vertices: int,
        objective: Objective,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch channels height width"]]:
        while True:
            try:
                return self._passes(batch, num_vertices, objective)
            except torch.OutOfMemoryError as error:
                self._take_fewer(error)

    def _take_fewer(self, error: torch.OutOfMemoryError) -> None:
        if self._images_per_pass == 1:
            raise OutOfMemoryError(
                f"The device has no memory to pass one image through "
                f"{self._search.network.full_name} and back ({error}). Free memory on it, or "
                "choose --device cpu."
            ) from error
        self._images_per_pass = -(-self._images_per_pass // 2)
        logger.warning("memory ran out; going on with %d images a pass", self._images_per_pass)
        torch.cuda.empty_cache()

    def _passes(
        self,
        batch: Float[Tensor, "batch channels height width"],
        num_vertices: int,
        objective: Objective,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch channels height width"]]:
        """Returns the terms of all images, and the gradient of their weighted sum in the images."""
        gradients = []
        terms: dict[str, list[Tensor]] = defaultdict(list)
        for first in range(0, len(batch), self._images_per_pass):
            part = batch[first : first + self._images_per_pass].clone().requires_grad_()
            z = self._search.network.pre_activation(part)
            vertices = max(0, min(len(part), num_vertices - first))
            found = self._terms(z, first, vertices, objective.penalty)
            total = (
                objective.active * found["active"].sum()
                + objective.inactive * found["inactive"].sum()
            ) / len(batch) + objective.inactive * found["unit"].sum() / num_vertices
            (gradient,) = torch.autograd.grad(total, part)
            gradients.append(gradient)
            for name, values in found.items():
                terms[name].append(values.detach())
        joined = {name: torch.cat(values) for name, values in terms.items()}
        return _split(joined, num_vertices), torch.cat(gradients)

    def _terms(
        self, z: Float[Tensor, "part units"], first: int, vertices: int, penalty: str
    ) -> dict[str, Tensor]:
        """Returns each image's terms; ``unit`` of the first ``vertices`` images only."""
        target, units = self._search.target, self._search.units
        terms = {
            "active": active_loss(z, target),
            # What lies between vertices is asked only what a collision needs.
            "inactive": inactive_hinge_loss(z, target),
            "unit": z.new_zeros(vertices),
        }
        if vertices and len(units):
            numbers = torch.arange(first, first + vertices)
            chosen = units[numbers % len(units)].to(z.device)
            terms["unit"] = unit_loss(z[:vertices], target, chosen)
            if penalty == "absolute":
                absolute = inactive_absolute_loss(z[:vertices], target, chosen)
                terms["inactive"] = torch.cat([absolute, terms["inactive"][vertices:]])
        return terms


def _split(terms: Mapping[str, Tensor], num_vertices: int) -> dict[str, Tensor]:
    """Gives the terms of hull samples, which follow the vertices, names of their own."""
    return {
        "active": terms["active"][:num_vertices],
        "inactive": terms["inactive"][:num_vertices],
        "unit": terms["unit"],
        "hull_active": terms["active"][num_vertices:],
        "hull_inactive": terms["inactive"][num_vertices:],
    }


def _means(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in terms.items() if len(values)}


def _weighted(terms: Mapping[str, Tensor], objective: Objective) -> float:
    active = torch.cat([terms["active"], terms["hull_active"]]).mean()
    inactive = torch.cat([terms["inactive"], terms["hull_inactive"]]).mean()
    unit = terms["unit"].mean()
    return float(objective.active * active + objective.inactive * (inactive + unit))
