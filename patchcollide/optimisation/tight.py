"""The objective of feature collisions: vertices as far apart as a bound on features lets them be.

It has no weights. With ``r`` what an image still has to do, as a share of the target's features
(:func:`patchcollide.optimisation.losses.misfits`), ``s`` its distance from the source and ``D`` the
mean distance of vertices, it minimises ``a log rho + b log s - c log D``, ``rho`` the power mean of
``r`` over vertices and fresh points between them. The shares ``a``, ``b`` and ``c`` follow from the
bounds alone, see :mod:`patchcollide.optimisation.multipliers`.

First one image, the centre, is brought to where its features hold: its steps cost a fraction. It is
then split into vertices, which move apart. Whatever of them held its bounds in 8 bits with the
largest distance is what the descent ends with. Departs from the paper, which has no bound.

Free pixels begin with small steps, which keep the source's look, and of the centre many: several
count as one of the descent's. Where the centre comes no nearer they grow.
"""

import math

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.evaluation.feature_distances import relative_feature_distances
from patchcollide.evaluation.simplex import face_weights
from patchcollide.images.tensors import mean_distance
from patchcollide.optimisation.apartness import apartness, remoteness
from patchcollide.optimisation.gaits import COMPOSITIONS, PIXELS
from patchcollide.optimisation.losses import log_power_mean, misfits, power_shares
from patchcollide.optimisation.multipliers import weigh
from patchcollide.optimisation.objective import Objective, with_hull_samples
from patchcollide.optimisation.passes import Passes
from patchcollide.optimisation.step_sizes import (
    NEVER,
    fresh_sizes,
    gains_no_more,
    grow,
    share_of_size,
)
from patchcollide.optimisation.stopping import ALL_STEPS, DescentTask, validate_features
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor

_CENTRE, _VERTICES = 0.0, 1.0

_MULTIPLIERS = {"features": 1.0, "source": 0.0}
"""The slow parts of the multipliers, at first."""

_AIM = 0.93
"""Share of the bound that the largest distance of a validation is led to."""
_SAFE = 0.97
"""Share of the bound that a validation may find: thousands of points find a little more."""
_SLACK = 0.8
"""The power mean's share of a validation's largest distance, until one has been measured."""
_OUT_OF_REACH = 1.25
"""A bound below this times what the centre reached is none that vertices can move apart within."""
_FALL = 0.85
"""Share of the steps from which on a bound that was widened falls to what was asked."""
_TIGHTER = 0.8
"""By what a bound that lets another class in is multiplied."""
_PARTED = 3.0
"""How far vertices are moved from the centre at first, in units of the parameter."""
_TINY = 1e-9


class TightObjective(Objective):
    """See the module.

    Args:
        task: What to do; ``objective.tightness`` is the bound on features.
        source: What images are to stay near, in ``[0, 1]``; None for no bound.
    """

    def __init__(
        self, task: DescentTask, source: Float[Tensor, "1 channels height width"] | None
    ) -> None:
        super().__init__(task)
        self._source = source if task.objective.source_distance else None
        self._gait = COMPOSITIONS if source is None else PIXELS
        self._passes = Passes(
            task.network, task.optimiser.num_vertices + task.objective.hull_samples
        )
        self.state = {
            "phase": _CENTRE,
            "begun": 0.0,
            "goal": task.objective.tightness,
            "slack": _SLACK,
            "reached": NEVER,
            "logs": 0.0,
            "num_logs": 0.0,
            "stage": -1.0,
            "rank": -NEVER,
            **_MULTIPLIERS,
            **fresh_sizes(self._gait.size),
        }

    def optimiser(self, parameterisation: Parameterisation) -> torch.optim.Adam:
        """See :meth:`Objective.optimiser`."""
        return torch.optim.Adam([parameterisation.parameter], betas=self._gait.averages)

    def step_size(self, step: int, parameterisation: Parameterisation) -> float:
        """See :meth:`Objective.step_size`, and :mod:`patchcollide.optimisation.step_sizes`."""
        settings, begun = self.task.optimiser, self.state["begun"]
        end = settings.steps if begun else self._centre_steps
        rise = min(1.0, (step - begun + 1) / max(1, settings.warmup_steps))
        size = self.state["size"] * rise * share_of_size((step - begun) / (end - begun))
        return settings.learning_rate * size * parameterisation.unit

    @property
    def moves(self) -> int:
        """See :attr:`Objective.moves`: several of the centre, whose moves cost less."""
        is_split = self.state["phase"] != _CENTRE or self.task.optimiser.num_vertices == 1
        return 1 if is_split else self._gait.moves

    def is_due(self, step: int) -> bool:
        """See :meth:`Objective.is_due`: where the centre's steps are over."""
        return self.state["phase"] == _CENTRE and step == self._centre_steps

    @property
    def _centre_steps(self) -> int:
        """After so many the centre is taken as it is."""
        settings = self.task.optimiser
        share = self._gait.centre if settings.num_vertices > 1 else 1.0
        return max(1, round(share * settings.steps))

    def backward(
        self, parameterisation: Parameterisation, step: int, generator: torch.Generator
    ) -> dict[str, float]:
        """See :meth:`Objective.backward`: the generator draws the points between vertices.

        Returns:
            The loss, the power means of ``r`` and of the relative distance of features, the mean
            distances of vertices and from the source, in 0..255, and the shares of the aims.

        Raises:
            OutOfMemoryError: If not even one image fits through the network.
        """
        is_centre = self.state["phase"] == _CENTRE
        images = parameterisation.images(1 if is_centre else None)
        num_samples = self.task.objective.hull_samples
        batch = with_hull_samples(images, num_samples, generator, face_weights)
        terms, gradient = self._passes.gradient(batch.detach(), self._terms)
        log_tau = float(log_power_mean(terms["tau"] + _TINY))
        self._note(log_tau, parameterisation, is_centre)
        logs = {"features": log_power_mean(terms["misfit"])}
        failures = {"features": log_tau - math.log(self._aim(step))}
        if self._source is not None:
            logs["source"] = remoteness(images, self._source).log()
            bound = self.task.objective.source_distance
            failures["source"] = float(logs["source"].detach()) - math.log(bound)
        if len(images) > 1:
            logs["distance"] = -self._spread(images, parameterisation)
        parted, gait = len(images) > 1, self._gait
        shares = weigh(self.state, failures, with_distance=parted, rate=gait.rate, gain=gait.gain)
        # Its gradient in the images is that of the network's part; its value means nothing.
        pulls = power_shares(terms["misfit"])[:, None, None, None] * gradient
        surrogate = shares["features"] * (batch * pulls).sum()
        for name in shares.keys() - {"features"}:
            surrogate = surrogate + shares[name] * logs[name]
        surrogate.backward()  # type: ignore[no-untyped-call]
        row = {
            "loss": sum(share * float(logs[name].detach()) for name, share in shares.items()),
            "misfit": math.exp(float(logs["features"])),
            "tau": math.exp(log_tau),
            "distance": mean_distance(images.detach()),
        }
        return row | {f"share_{name}": share for name, share in shares.items()}

    def _aim(self, step: int) -> float:
        return _AIM * self.state["slack"] * self._goal(step)

    def _goal(self, step: int) -> float:
        """Returns the bound of now: in the end as asked, to which a wider one falls step by step.

        If it fell at once features would count for nearly all at once. The optimiser, which is used
        to smaller gradients, would take steps that shake them.
        """
        goal, asked = self.state["goal"], self.task.objective.tightness
        fallen = (step / self.task.optimiser.steps - _FALL) / (1 - _FALL)
        if fallen >= 1 or self.state["halvings"] < 1:
            return min(goal, asked)
        return goal * math.pow(min(1.0, asked / goal), max(0.0, fallen))

    def _terms(
        self, z: Float[Tensor, "part units"], first: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        del first
        found = misfits(z, self.task.target)
        tau = relative_feature_distances(z.detach(), self.task.target)
        return found.log().sum(), {"misfit": found, "tau": tau}

    def _note(self, log_tau: float, parameterisation: Parameterisation, is_centre: bool) -> None:
        self.state["logs"] += log_tau
        self.state["num_logs"] += 1
        if is_centre and log_tau < self.state["reached"]:
            self.state["reached"] = log_tau
            parameter = parameterisation.parameter.detach()
            self.kept = parameter[:1].expand_as(parameter).clone()

    def check(self, parameterisation: Parameterisation, step: int) -> tuple[dict[str, float], str]:
        """See :meth:`Objective.check`.

        Returns:
            What :func:`patchcollide.optimisation.stopping.validate_features` does, once there are
            vertices, with the step's size; and why the descent is over.
        """
        state = self.state
        log_tau = state["logs"] / max(1.0, state["num_logs"])
        state["logs"] = state["num_logs"] = 0.0
        row, self.begins_anew = {"step_size": state["size"]}, False
        last = step == self.task.optimiser.steps
        if state["phase"] == _CENTRE:
            held = state["reached"] <= math.log(self._aim(step))
            if not held and step < self._centre_steps:
                wanted = log_tau - math.log(self._aim(step))
                grow(
                    state,
                    log_tau,
                    wanted / max(1, self._centre_steps - step),
                    every=self.task.optimiser.check_every,
                    largest=self._gait.largest,
                )
                return row, ""
            if self.task.optimiser.num_vertices == 1:
                row |= validate_features(self.task, parameterisation.images())
                return row, ALL_STEPS if last else "the features come no nearer"
            self._split(parameterisation, step)
            if not last:
                return row, ""
        found = validate_features(self.task, parameterisation.images())
        measured = math.exp(log_tau) / max(found["validation_tau_max"], _TINY)
        state["slack"] = (state["slack"] + min(1.0, max(0.5, measured))) / 2
        if (asked := self.task.objective.tightness) < state["goal"]:
            # A bound was widened to what the centre reached: vertices that are nearer need less.
            reached = _OUT_OF_REACH * found["validation_tau_max"]
            state["goal"] = max(asked, min(state["goal"], reached))
        if found["validation_tau_max"] <= _SAFE * state["goal"] and not self._has_class(found):
            # Of a target that is barely its class's, features as near as asked may be another's.
            state["goal"] *= _TIGHTER
        stage, rank = self._rank(found, parameterisation, step)
        if (stage, rank) > (state["stage"], state["rank"]):
            if stage > state["stage"]:
                state["best"] = -NEVER
            state["stage"], state["rank"] = float(stage), rank
            self.kept = parameterisation.parameter.detach().clone()
        if gains_no_more(state, state["rank"]):
            return row | found, _ENDS[int(state["stage"])]
        return row | found, ALL_STEPS if last else ""

    def _has_class(self, found: dict[str, float]) -> bool:
        # The margin is asked for because a batch is small; see `sure_enough`.
        least = self.task.optimiser.stop_margin * self.task.target_margin
        return found["validation_margin"] >= least

    def _rank(
        self, found: dict[str, float], parameterisation: Parameterisation, step: int
    ) -> tuple[int, float]:
        """Features come first, then the source, then the distance.

        In the end features within what was asked come before those within a wider bound, and of
        those the nearer ones, lest a little distance be bought with features that nobody asked for.
        """
        tau = found["validation_tau_max"]
        if tau > _SAFE * self.state["goal"] or not self._has_class(found):
            return 0, -tau
        asked = self.task.objective.tightness
        goal = self._goal(step)
        is_held = goal <= asked and tau <= _SAFE * asked
        images = parameterisation.images()
        rank = float(self._spread(images, parameterisation))
        if self._source is not None:
            remote = float(remoteness(images, self._source))
            if remote > 1.02 * self.task.objective.source_distance:
                return (4 if is_held else 1), rank - 2 * math.log(remote)
        if is_held:
            return 5, rank
        is_falling = goal < self.state["goal"]
        return (3, rank - 2 * math.log(tau)) if is_falling else (2, rank)

    def _spread(
        self,
        images: Float[Tensor, "vertices channels height width"],
        parameterisation: Parameterisation,
    ) -> Tensor:
        preference = self.task.objective.coarseness
        return apartness(images, block=parameterisation.block, preference=preference)

    def _split(self, parameterisation: Parameterisation, step: int) -> None:
        """Begins with vertices at the centre; a bound that it did not reach becomes wider."""
        state, parameter = self.state, parameterisation.parameter
        generator = seeded(self.task.seed, Purpose.SPLIT)
        noise = _PARTED * parameterisation.unit * parameterisation.parting(generator)
        centre = parameter if self.kept is None else self.kept
        with torch.no_grad():
            parameter.copy_(centre + noise.to(parameter.device))
        parameterisation.project()
        goal = max(state["goal"], _OUT_OF_REACH * math.exp(state["reached"]))
        state |= {"phase": _VERTICES, "begun": float(step), "goal": goal}
        state |= _MULTIPLIERS | fresh_sizes(self._gait.vertices)
        self.begins_anew = True
        # What a descent ends with that ends before any of it was validated.
        self.kept = parameter.detach().clone()


_ENDS = (
    "the features come no nearer",
    "the images come no nearer to the source",
    "the vertices move apart no further",
    "the features come no nearer",
    # And with features as asked, not within a wider bound.
    "the images come no nearer to the source",
    "the vertices move apart no further",
)
