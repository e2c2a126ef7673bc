"""What a descent minimises, and when it has reached it.

An objective owns its terms and their weights, its state and its stop rule; what moves the
parameters is :mod:`patchcollide.optimisation.descent`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Objective as Weights
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.images.tensors import pairwise_distances
from patchcollide.optimisation.losses import (
    active_loss,
    inactive_absolute_loss,
    inactive_hinge_loss,
    unit_loss,
)
from patchcollide.optimisation.passes import Passes
from patchcollide.optimisation.schedules import make_optimiser, step_size, weights_at
from patchcollide.optimisation.stopping import (
    ALL_STEPS,
    DescentTask,
    far_enough,
    next_diversity,
    sure_enough,
    validate,
)
from patchcollide.shapes import Float, Tensor


class Objective(ABC):
    """A loss of images, what moves them along it, and the check that ends a descent on it.

    Args:
        task: What the images are to collide with, and the settings.

    Attributes:
        task: See above.
        state: What checks and steps change, by name, as it is kept in checkpoints.
        kept: The best parameters so far, where a descent ends with these; None where it ends with
            the last.
        begins_anew: Whether a check has just begun another phase, for which what the optimiser
            remembers is of no use.
    """

    def __init__(self, task: DescentTask) -> None:
        self.task = task
        self.state: dict[str, float] = {}
        self.kept: Tensor | None = None
        self.begins_anew = False

    def optimiser(self, parameterisation: Parameterisation) -> torch.optim.Adam | torch.optim.SGD:
        """Returns what moves the parameter."""
        return make_optimiser(self.task.optimiser, parameterisation)

    def step_size(self, step: int, parameterisation: Parameterisation) -> float:
        """Returns how far the parameter moves after ``step`` steps, in its own units."""
        return step_size(step, self.task.optimiser, parameterisation)

    def is_due(self, step: int) -> bool:
        """Whether a check is wanted after ``step`` steps, whatever the settings say."""
        del step
        return False

    @property
    def moves(self) -> int:
        """How often the parameter moves in a step."""
        return 1

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

    @abstractmethod
    def check(self, parameterisation: Parameterisation, step: int) -> tuple[dict[str, float], str]:
        """Measures the images, and draws the consequences for the steps to come.

        Args:
            parameterisation: Where the images come from.
            step: Steps done.

        Returns:
            What was measured, for the history; and why the descent is over, empty while it is not.
        """


class ClassObjective(Objective):
    """An objective whose check asks for the target's class all over the hull, and for distance."""

    def __init__(self, task: DescentTask) -> None:
        super().__init__(task)
        self.state["diversity"] = task.objective.diversity

    def check(self, parameterisation: Parameterisation, step: int) -> tuple[dict[str, float], str]:
        """See :meth:`Objective.check`.

        Returns:
            What :func:`patchcollide.optimisation.stopping.validate` does, with the state before;
            and why the descent is over.
        """
        row = validate(self.task, parameterisation.images())
        sure, far = sure_enough(row, self.task), far_enough(row, self.task)
        found = row | self.state
        self.state["diversity"] = next_diversity(self.state["diversity"], sure=sure, far=far)
        is_over = self.task.stops_early and sure and far
        if is_over:
            return found, "the validation batch is of the target's class"
        return found, ALL_STEPS if step == self.task.optimiser.steps else ""


class HullObjective(ClassObjective):
    """The paper's objective, asked of the hull: of its vertices, and of points between them.

    Every step asks for the losses of the vertices *and* of fresh random points between them:
    vertices can all be inside the polytope to a tolerance when what lies between them is not.

    Args:
        task: What to do.
    """

    def __init__(self, task: DescentTask) -> None:
        super().__init__(task)
        self._passes = Passes(
            task.network, task.optimiser.num_vertices + task.objective.hull_samples
        )

    def backward(
        self, parameterisation: Parameterisation, step: int, generator: torch.Generator
    ) -> dict[str, float]:
        """See :meth:`Objective.backward`: the generator draws the hull samples.

        Returns:
            The loss and its terms: means over the vertices, the hull samples or the pairs.

        Raises:
            OutOfMemoryError: If not even one image fits through the network.
        """
        weights = weights_at(step, self.task.objective, self.task.optimiser)
        weights = weights.model_copy(update=self.state)
        images = parameterisation.images()
        batch = with_hull_samples(images, weights.hull_samples, generator)
        terms, gradient = self._passed(batch.detach(), len(images), weights)
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

    def _passed(
        self,
        batch: Float[Tensor, "batch channels height width"],
        num_vertices: int,
        weights: Weights,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch channels height width"]]:
        """Returns the terms of all images, and the gradient of their weighted sum in the images."""

        def terms(z: Tensor, first: int) -> tuple[Tensor, dict[str, Tensor]]:
            vertices = max(0, min(len(z), num_vertices - first))
            found = self._terms(z, first, vertices, weights.penalty)
            total = (
                weights.active * found["active"].sum() + weights.inactive * found["inactive"].sum()
            ) / len(batch) + weights.inactive * found["unit"].sum() / num_vertices
            return total, found

        joined, gradient = self._passes.gradient(batch, terms)
        return _split(joined, num_vertices), gradient

    def _terms(
        self, z: Float[Tensor, "part units"], first: int, vertices: int, penalty: str
    ) -> dict[str, Tensor]:
        """Returns each image's terms; ``unit`` of the first ``vertices`` images only."""
        target, units = self.task.target, self.task.units
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


def with_hull_samples(
    images: Float[Tensor, "vertices channels height width"],
    count: int,
    generator: torch.Generator,
    draw: Callable[[int, int, torch.Generator], Tensor] = uniform_weights,
) -> Float[Tensor, "batch channels height width"]:
    """Returns the vertices and, if there are several, ``count`` fresh points between them."""
    if not count or len(images) == 1:
        return images
    weights = draw(count, len(images), generator)
    return torch.cat([images, combine(weights.to(images.device), images)])


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
