"""The loop that finds vertices, from any parameterisation of the images."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from patchcollide.checkpoints import Checkpoint
from patchcollide.config import Objective, Optimiser
from patchcollide.errors import DivergedError, InterruptedWorkError
from patchcollide.interrupts import StopRequest, stop_requests
from patchcollide.losses import (
    TargetFeatures,
    active_loss,
    inactive_absolute_loss,
    inactive_hinge_loss,
    pairwise_distances,
    unit_loss,
)
from patchcollide.networks import CollisionNetwork
from patchcollide.parameterisations import Parameterisation
from patchcollide.polytope import combine, round_to_8_bits, seeded, uniform_weights
from patchcollide.progress import track
from patchcollide.shapes import Float, Tensor

logger = logging.getLogger(__name__)

_VALIDATION_BATCH = 16


@dataclass(frozen=True)
class VertexSearch:
    """Everything that decides how vertices are found.

    Attributes:
        network: The network under study.
        target: The features to collide with.
        target_class: What hull samples must be classified as.
        objective: Weights of the losses.
        optimiser: Steps, schedule and stop rule.
        seed: Decides the hull samples.
    """

    network: CollisionNetwork
    target: TargetFeatures
    target_class: int
    objective: Objective
    optimiser: Optimiser
    seed: int


@dataclass
class SearchState:
    """How far the search has come.

    Attributes:
        step: Steps done.
        history: One row a step: the terms of the loss and, at checks, the validation.
        stopped_because: Why it ended; empty while it goes on.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_because: str = ""


def find_vertices(
    search: VertexSearch, parameterisation: Parameterisation, checkpoint: Checkpoint | None = None
) -> tuple[Float[Tensor, "vertices 3 height width"], SearchState]:
    """Moves the vertices until their hull collides with the target.

    Every step minimises the losses of the vertices *and* of fresh random points between them:
    vertices can all be inside the polytope to a tolerance when what lies between them is not.
    Adam's step size rises over ``warmup_steps``, stays, and falls as a cosine over the second half.

    Args:
        search: What to do.
        parameterisation: Starts where its parameter is, unless ``checkpoint`` holds a later state.
        checkpoint: Where to keep the state; None to keep none.

    Returns:
        The vertices, RGB in ``[0, 1]``, and how the search went.

    Raises:
        DivergedError: If the loss or a parameter is infinite or not a number.
        InterruptedWorkError: If the user asked to stop; the state is kept.
        DiskFullError: If there is no room for the state.
    """
    adam = torch.optim.Adam(
        [parameterisation.parameter], lr=parameterisation.unit, betas=(0.9, 0.99)
    )
    generator = seeded(search.seed, 1)
    progress = SearchState()
    if checkpoint is not None:
        state = checkpoint.load(parameterisation.parameter, adam, generator)
        progress = SearchState(**state) if state else progress
    with stop_requests() as request:
        _iterate(search, parameterisation, adam, generator, progress, checkpoint, request)
    with torch.no_grad():
        return parameterisation.images().detach().clone(), progress


def _iterate(
    search: VertexSearch,
    parameterisation: Parameterisation,
    adam: torch.optim.Adam,
    generator: torch.Generator,
    progress: SearchState,
    checkpoint: Checkpoint | None,
    request: StopRequest,
) -> None:
    settings = search.optimiser

    def keep() -> None:
        if checkpoint is not None:
            checkpoint.save(parameterisation.parameter, adam, generator, vars(progress))

    # A search may have been stopped by the user just when it was over.
    remaining = range(progress.step, 0 if progress.stopped_because else settings.steps)
    for step in track(remaining, "Moving the vertices", len(remaining)):
        row = _step(search, parameterisation, adam, generator, step)
        progress.history.append(row)
        progress.step = step + 1
        if progress.step % settings.check_every == 0 or progress.step == settings.steps:
            row |= validate(search, parameterisation)
            logger.debug("step %d: %s", progress.step, row)
            if _good_enough(row, settings):
                progress.stopped_because = "the validation batch collides"
            elif progress.step == settings.steps:
                progress.stopped_because = "all steps were done"
        if request.requested:
            keep()
            raise InterruptedWorkError(_how_to_go_on(progress, settings, checkpoint))
        if progress.stopped_because:
            return
        if progress.step % settings.checkpoint_every == 0:
            keep()


def _step(
    search: VertexSearch,
    parameterisation: Parameterisation,
    adam: torch.optim.Adam,
    generator: torch.Generator,
    step: int,
) -> dict[str, float]:
    started = time.perf_counter()
    for group in adam.param_groups:
        rate = search.optimiser.learning_rate * schedule(step, search.optimiser)
        group["lr"] = rate * parameterisation.unit
    images = parameterisation.images()
    terms = _terms(search, images, generator)
    weight = search.objective.total_variation
    roughness = parameterisation.roughness() if weight else images.new_zeros(())
    loss = _total(search.objective, terms) + weight * roughness
    row = {"step": float(step), "loss": loss.item()}
    if not math.isfinite(row["loss"]):
        raise _diverged(f"The loss is {row['loss']} at step {step}", search.optimiser)
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    adam.step()
    parameterisation.project()
    # A finite loss can have an infinite gradient; nobody would notice after the last step.
    if not parameterisation.parameter.isfinite().all():
        raise _diverged(f"The parameters are not finite after step {step}", search.optimiser)
    row |= {name: value.detach().mean().item() for name, value in terms.items() if value.numel()}
    row |= {"total_variation": roughness.item(), "seconds": time.perf_counter() - started}
    return row


def _diverged(what: str, settings: Optimiser) -> DivergedError:
    return DivergedError(
        f"{what}. Set optimiser.learning_rate below {settings.learning_rate}, or lower the "
        "weights in section objective."
    )


def _terms(
    search: VertexSearch,
    images: Float[Tensor, "vertices 3 height width"],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Returns each term of the loss, one value for each vertex, hull sample or pair."""
    num_vertices = len(images)
    batch = images
    if search.objective.hull_samples and num_vertices > 1:
        weights = uniform_weights(search.objective.hull_samples, num_vertices, generator)
        batch = torch.cat([images, combine(weights.to(images.device), images)])
    output = search.network(batch)
    z, hull = output.pre_activation[:num_vertices], output.pre_activation[num_vertices:]
    target = search.target
    units = target.first_inactive(num_vertices).to(z.device)
    if search.objective.penalty == "absolute" and len(units):
        inactive = inactive_absolute_loss(z, target, units)
    else:
        inactive = inactive_hinge_loss(z, target)
    probabilities = output.logits.detach().softmax(dim=1)[:, search.target_class]
    return {
        "active": active_loss(z, target),
        "inactive": inactive,
        "unit": unit_loss(z, target, units) if len(units) else z.new_zeros(num_vertices),
        "hull_active": active_loss(hull, target),
        # What lies between vertices is asked only what a collision needs.
        "hull_inactive": inactive_hinge_loss(hull, target),
        "distance": pairwise_distances(images),
        "probability": probabilities,
    }


def _total(objective: Objective, terms: dict[str, Tensor]) -> Tensor:
    active = torch.cat([terms["active"], terms["hull_active"]]).mean()
    inactive = torch.cat([terms["inactive"], terms["hull_inactive"]]).mean()
    loss = objective.active * active + objective.inactive * (inactive + terms["unit"].mean())
    if terms["distance"].numel():
        loss = loss - objective.diversity * terms["distance"].mean()
    return loss


def schedule(step: int, settings: Optimiser) -> float:
    """Returns the share of the learning rate at a step: warm-up, plateau, cosine to a twentieth."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    half = settings.steps / 2
    if step < half:
        return rise
    return rise * (0.05 + 0.95 * (1 + math.cos(math.pi * (step - half) / half)) / 2)


def validate(search: VertexSearch, parameterisation: Parameterisation) -> dict[str, float]:
    """Measures the hull on samples of its own, 8-bit, the same at every check.

    Returns:
        The share classified as the target, the mean probability of the target's class, and the
        mean distance of the vertices in 0..255.
    """
    with torch.no_grad():
        vertices = round_to_8_bits(parameterisation.images())
        weights = uniform_weights(
            search.optimiser.validation_samples, len(vertices), seeded(search.seed, 2)
        ).to(vertices.device)
        hits, total = 0, 0.0
        for part in torch.split(weights, _VALIDATION_BATCH):
            samples = round_to_8_bits(combine(part, vertices))
            probabilities = search.network.probabilities(samples)
            hits += int((probabilities.argmax(dim=1) == search.target_class).sum())
            total += float(probabilities[:, search.target_class].sum())
        distances = pairwise_distances(vertices)
    return {
        "validation_success": hits / len(weights),
        "validation_probability": total / len(weights),
        "validation_distance": float(distances.mean()) if len(distances) else 0.0,
    }


def _good_enough(row: dict[str, float], settings: Optimiser) -> bool:
    return (
        row["validation_success"] >= settings.stop_success
        and row["validation_probability"] >= settings.stop_probability
        # One vertex alone has no distance.
        and (settings.num_vertices == 1 or row["validation_distance"] >= settings.stop_distance)
    )


def _how_to_go_on(progress: SearchState, settings: Optimiser, checkpoint: Checkpoint | None) -> str:
    done = f"Stopped after {progress.step} of {settings.steps} steps"
    if checkpoint is None:
        return f"{done}; nothing was kept."
    return f"{done}; the state is in {checkpoint.path}. Run the same command again to go on."


def history_columns(history: Sequence[dict[str, float]]) -> list[str]:
    """Returns the columns of a history, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in history for name in row))
