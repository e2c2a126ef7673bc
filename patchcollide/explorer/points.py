"""What a network makes of a point of a run's polytope, or of any image, beside the target."""

import math
import time
from typing import TypedDict

import torch

from patchcollide.errors import RunError
from patchcollide.evaluation.controls import is_near
from patchcollide.evaluation.evaluate import NamedClass
from patchcollide.evaluation.feature_distances import feature_differences, feature_scale
from patchcollide.evaluation.gaps import GapFigures, measure_gaps
from patchcollide.evaluation.simplex import combine
from patchcollide.evaluation.verdicts import CLOSE, VerdictName, verdict
from patchcollide.images.tensors import as_batch, as_pictures
from patchcollide.networks.network import CollisionNetwork
from patchcollide.runs.folder import Run
from patchcollide.runs.summary import read_run_target, read_summary
from patchcollide.runs.vertices import load_vertex_pngs
from patchcollide.shapes import Float, Float64, Tensor, UInt8, ndarray

NUM_CLASSES = 5
MEMBERSHIP_TOLERANCE = 0.02
"""By how much features may differ from the target's and an image still counts as inside the
polytope, as a share of the root mean square of the target's own over its active units. Rounding the
vertices of an exact polytope of digits to 8 bits and combining them moves features by less."""


class Membership(TypedDict):
    """Whether an image's class is the target's, and whether all features are, within a tolerance.

    ``tolerance`` is in units of the features, ``tolerance_relative`` :data:`MEMBERSHIP_TOLERANCE`;
    ``verdict`` is what the image would be called as a polytope's only sample, at the run's gamma.
    """

    collides_class: bool
    verdict: VerdictName
    inside: bool
    tolerance: float
    tolerance_relative: float


class BesideOthers(TypedDict):
    """How many of how many images of the data set are nearer to the target's features.

    Attributes:
        num_images: Of the data set.
        num_nearer: Of these.
        nearest_control: Of :mod:`patchcollide.evaluation.controls`; None if all are infinite.
        is_near: Whether this one is nearer than all controls.
    """

    num_images: int
    num_nearer: int
    nearest_control: float | None
    is_near: bool


class Distances(TypedDict):
    """L2 in 0..255 to the source, and to the nearest vertex, whose number is given."""

    source: float
    nearest_vertex: float
    nearest_vertex_number: int


class Description(TypedDict):
    """What the network makes of an image, and how far it is from the target's polytope.

    Attributes:
        top: The most probable classes.
        target: The target's class.
        gaps: Behind the activation.
        membership: Of the polytope.
        others: None where none were measured.
        distances: To source and vertices.
        milliseconds: What the answer took.
    """

    top: list[NamedClass]
    target: NamedClass
    gaps: GapFigures[float | None]
    membership: Membership
    others: BesideOthers | None
    distances: Distances
    milliseconds: float


class Points:
    """Answers about the points between a run's 8-bit vertices.

    Not for several threads at once: the network takes notes while it runs.

    Args:
        run: A finished run.
        network: The one it was made with.

    Attributes:
        num_vertices: How many weights a point has.

    Raises:
        InputError: If a file of the run is missing or damaged.
    """

    def __init__(
        self,
        run: Run,
        network: CollisionNetwork,
        source: UInt8[ndarray, "height width channels"],
    ) -> None:
        self._network = network
        vertices = load_vertex_pngs(run)
        if vertices.shape[1:] != source.shape:
            raise RunError(
                f"{run.folder}: the vertices are {vertices.shape[1:]}, but source.png is "
                f"{source.shape}. Make the run again."
            )
        self._vertices = as_batch(vertices)
        self._source = as_batch(source[None])
        target = read_run_target(run, network)
        self._class, self._class_name = target.class_index, target.class_name
        self._features = target.features(network)
        num_active = max(1, int(self._features.active.sum()))
        typical = float(feature_scale(self._features)) / num_active**0.5
        self._tolerance = network.blind.tolerance + MEMBERSHIP_TOLERANCE * typical
        summary = read_summary(run)
        self._gamma = summary["tightness"]["gamma"] if "tightness" in summary else CLOSE
        claims = summary.get("certificate")
        self._others = claims.get("others") if claims else None
        self.num_vertices = len(vertices)

    def image(
        self, weights: Float64[Tensor, "vertices"]
    ) -> UInt8[ndarray, "height width channels"]:
        """Returns a convex combination of the vertices, rounded as an evaluation rounds samples.

        Args:
            weights: Not negative, of sum one.
        """
        picture: ndarray = as_pictures(combine(weights[None], self._vertices))[0]
        return picture

    def answer(self, weights: Float64[Tensor, "vertices"]) -> Description:
        """Returns what :meth:`describe` says of a convex combination of the vertices.

        Args:
            weights: Not negative, of sum one.
        """
        begun = time.perf_counter()
        described = self.describe(self.image(weights))
        return {**described, "milliseconds": 1000 * (time.perf_counter() - begun)}

    def describe(self, image: UInt8[ndarray, "height width channels"]) -> Description:
        """Says what the network makes of an image, and how far it is from the target's polytope.

        Args:
            image: Of the vertices' size.
        """
        begun = time.perf_counter()
        batch = as_batch(image[None])
        with torch.no_grad():
            output = self._network(batch)
            z = output.pre_activation
            gaps = measure_gaps(z, self._features).rows()[0]
            worst = float(feature_differences(z, self._features).abs().max())
        chances = output.probabilities[0].cpu()
        values, indices = chances.topk(min(NUM_CLASSES, len(chances)))
        tau, same = gaps["feature_distance_relative"], int(chances.argmax()) == self._class
        return {
            "top": [
                self._class_row(int(index), float(value))
                for index, value in zip(indices, values, strict=True)
            ],
            "target": self._class_row(self._class, float(chances[self._class])),
            "gaps": gaps,
            "membership": {
                "collides_class": same,
                "verdict": verdict(tau, float(same), self._gamma),
                "inside": worst <= self._tolerance,
                "tolerance": self._tolerance,
                "tolerance_relative": MEMBERSHIP_TOLERANCE,
            },
            "others": self._beside_others(tau),
            "distances": self._distances(batch),
            "milliseconds": 1000 * (time.perf_counter() - begun),
        }

    def _class_row(self, index: int, probability: float) -> NamedClass:
        name = self._network.class_name(index)
        return {"class": index, "class_name": name, "probability": probability}

    def _distances(self, batch: Float[Tensor, "1 channels height width"]) -> Distances:
        def distance(others: Tensor) -> Tensor:
            return (255 * (others - batch)).square().sum(dim=(1, 2, 3)).sqrt()

        nearest, number = distance(self._vertices).min(dim=0)
        return {
            "source": float(distance(self._source)[0]),
            "nearest_vertex": float(nearest),
            "nearest_vertex_number": int(number),
        }

    def _beside_others(self, distance: float | None) -> BesideOthers | None:
        """Sets a relative distance beside those that a summary keeps."""
        if not self._others:
            return None
        tau = math.inf if distance is None else distance
        known = [other for other in self._others["distances"] if other is not None]
        controls = self._others["controls"]
        return {
            "num_images": self._others["num_images"],
            "num_nearer": sum(other < tau for other in known),
            "nearest_control": min((c for c in controls.values() if c is not None), default=None),
            "is_near": is_near(tau, controls),
        }
