"""What a search minimises, and when it has reached it.

An objective owns its terms and their weights, its state and its stop rule; what moves the
parameters is :mod:`patchcollide.optimisation.descent`. The gradient of a step goes through the
network in as many passes as memory wants.
"""

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Objective as Weights
from patchcollide.errors import OutOfMemoryError
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.images.tensors import pairwise_distances
from patchcollide.optimisation.losses import (
    active_loss,
    inactive_absolute_loss,
    inactive_hinge_loss,
    unit_loss,
)
from patchcollide.optimisation.schedules import weights_at
from patchcollide.optimisation.stopping import (
    VertexSearch,
    far_enough,
    next_diversity,
    sure_enough,
    validate,
)
from patchcollide.shapes import Float, Tensor

logger = logging.getLogger(__name__)


class Objective(ABC):
    """A loss of images, and the check that ends a descent on it.

    Args:
        search: What the images are to collide with, and the settings.

    Attributes:
        search: See above.
        state: What a check changed, by name, as it is kept in checkpoints.
    """

    def __init__(self, search: VertexSearch) -> None:
        self.search = search
        self.state = {"diversity": search.objective.diversity}

    @abstractmethod
    def backward(
        self, parameterisation: Parameterisation, step: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Adds the gradient of the loss to the parameter's.

        Args:
            parameterisation: Where the images come from.
            step: Steps done before, by which weights may go.
            generator: Draws what is drawn anew at each step.

        Returns:
            ``loss`` and its terms.
        """

    def check(
        self, images: Float[Tensor, "vertices channels height width"]
    ) -> tuple[dict[str, float], str]:
        """Measures the hull, and draws the consequences for the steps to come.

        Returns:
            What :func:`patchcollide.optimisation.stopping.validate` does, with the state before;
            and why the descent is over, empty while it is not.
        """
        row = validate(self.search, images)
        sure, far = sure_enough(row, self.search), far_enough(row, self.search)
        found = row | self.state
        self.state["diversity"] = next_diversity(self.state["diversity"], sure=sure, far=far)
        is_over = self.search.stops_early and sure and far
        return found, "the validation batch collides" if is_over else ""


class HullObjective(Objective):
    """The paper's objective, asked of the hull: of its vertices, and of points between them.

    Every step asks for the losses of the vertices *and* of fresh random points between them:
    vertices can all be inside the polytope to a tolerance when what lies between them is not.

    Args:
        search: What to do.
    """

    def __init__(self, search: VertexSearch) -> None:
        super().__init__(search)
        self._images_per_pass = search.optimiser.num_vertices + search.objective.hull_samples

    def backward(
        self, parameterisation: Parameterisation, step: int, generator: torch.Generator
    ) -> dict[str, float]:
        """See :meth:`Objective.backward`: the generator draws the hull samples.

        Returns:
            The loss and its terms: means over the vertices, the hull samples or the pairs.

        Raises:
            OutOfMemoryError: If not even one image fits through the network.
        """
        weights = weights_at(step, self.search.objective, self.search.optimiser)
        weights = weights.model_copy(update=self.state)
        images = parameterisation.images()
        batch = images
        if weights.hull_samples and len(images) > 1:
            shares = uniform_weights(weights.hull_samples, len(images), generator)
            batch = torch.cat([images, combine(shares.to(images.device), images)])
        terms, gradient = self._through_network(batch.detach(), len(images), weights)
        row = _means(terms)
        loss = _weighted(terms, weights)
        # Its gradient in the images is that of the network's part; its value means nothing.
        surrogate = (batch * gradient).sum()
        distances = pairwise_distances(images)
        if len(distances):
            surrogate = surrogate - weights.diversity * distances.mean()
            row["distance"] = float(distances.detach().mean())
            loss -= weights.diversity * row["distance"]
        row["total_variation"] = 0.0
        if weights.total_variation:
            roughness = parameterisation.roughness()
            surrogate = surrogate + weights.total_variation * roughness
            row["total_variation"] = float(roughness.detach())
            loss += weights.total_variation * row["total_variation"]
        surrogate.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss, **row}

    def _through_network(
        self,
        batch: Float[Tensor, "batch channels height width"],
        num_vertices: int,
        weights: Weights,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch channels height width"]]:
        while True:
            try:
                return self._passes(batch, num_vertices, weights)
            except torch.OutOfMemoryError as error:
                self._take_fewer(error)

    def _take_fewer(self, error: torch.OutOfMemoryError) -> None:
        if self._images_per_pass == 1:
            raise OutOfMemoryError(
                f"The device has no memory to pass one image through "
                f"{self.search.network.full_name} and back ({error}). Free memory on it, or "
                "choose --device cpu."
            ) from error
        self._images_per_pass = -(-self._images_per_pass // 2)
        logger.warning("memory ran out; going on with %d images a pass", self._images_per_pass)
        torch.cuda.empty_cache()

    def _passes(
        self,
        batch: Float[Tensor, "batch channels height width"],
        num_vertices: int,
        weights: Weights,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch channels height width"]]:
        """Returns the terms of all images, and the gradient of their weighted sum in the images."""
        gradients = []
        terms: dict[str, list[Tensor]] = defaultdict(list)
        for first in range(0, len(batch), self._images_per_pass):
            part = batch[first : first + self._images_per_pass].clone().requires_grad_()
            z = self.search.network.pre_activation(part)
            vertices = max(0, min(len(part), num_vertices - first))
            found = self._terms(z, first, vertices, weights.penalty)
            total = (
                weights.active * found["active"].sum() + weights.inactive * found["inactive"].sum()
            ) / len(batch) + weights.inactive * found["unit"].sum() / num_vertices
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
        target, units = self.search.target, self.search.units
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


def _weighted(terms: Mapping[str, Tensor], weights: Weights) -> float:
    active = torch.cat([terms["active"], terms["hull_active"]]).mean()
    inactive = torch.cat([terms["inactive"], terms["hull_inactive"]]).mean()
    unit = terms["unit"].mean()
    return float(weights.active * active + weights.inactive * (inactive + unit))
