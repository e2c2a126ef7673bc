"""What a network makes of a point of a run's polytope, or of any image, beside the target."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from patchcollide.errors import RunError
from patchcollide.evaluation import as_batch
from patchcollide.gaps import QUANTILES, active_level, collides, measure_gaps
from patchcollide.losses import TargetFeatures
from patchcollide.networks import CollisionNetwork
from patchcollide.polytope import combine, round_to_8_bits
from patchcollide.runs import Run, load_vertex_pngs
from patchcollide.shapes import Float, Float64, Tensor, UInt8, ndarray
from patchcollide.summaries import read_run_target, read_summary

NUM_CLASSES = 5
MEMBERSHIP_TOLERANCE = 0.02
"""By how much units may miss their interval and an image still counts as inside the polytope, as a
share of the target's mean over its active units. Rounding the vertices of an exact polytope of
digits to 8 bits and combining them moves units by up to 0.015 of it."""


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
        self._features = TargetFeatures.of(target.pre_activation.to(network.device), network.blind)
        self._activated = self._activate(self._features.pre_activation)
        self._tolerance = MEMBERSHIP_TOLERANCE * float(active_level(self._features))
        self._widened = replace(
            self._features,
            lower=self._features.lower - self._tolerance,
            upper=self._features.upper + self._tolerance,
        )
        self._null = read_summary(run).get("certificate", {}).get("null")
        self.num_vertices = len(vertices)

    def image(
        self, weights: Float64[Tensor, "vertices"]
    ) -> UInt8[ndarray, "height width channels"]:
        """Returns a convex combination of the vertices, rounded as an evaluation rounds samples.

        Args:
            weights: Not negative, of sum one.
        """
        rounded = round_to_8_bits(combine(weights[None], self._vertices))[0]
        return (255 * rounded).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    def answer(self, weights: Float64[Tensor, "vertices"]) -> dict[str, Any]:
        """Returns what :meth:`describe` says of a convex combination of the vertices.

        Args:
            weights: Not negative, of sum one.
        """
        begun = time.perf_counter()
        described = self.describe(self.image(weights))
        return {**described, "milliseconds": 1000 * (time.perf_counter() - begun)}

    def describe(self, image: UInt8[ndarray, "height width channels"]) -> dict[str, Any]:
        """Says what the network makes of an image, and how far it is from the target's polytope.

        Args:
            image: Of the vertices' size.

        Returns:
            ``top``: the most probable classes; ``target``: the target's class; ``gaps``: the
            figures of :class:`patchcollide.gaps.Gaps`; ``feature_distance``: L2 between the
            activations of image and target, ``feature_distance_relative``: as a share of the
            target's own norm; ``membership``: whether the class is the target's, whether all units
            lie in their intervals within ``tolerance``, in units of the pre-activation;
            ``random_pairs``: of how many random pairs what share is nearer in the relative mean
            gap, between two bounds, None where no pairs were measured; ``distances``: L2 in
            0..255; and ``milliseconds``.
        """
        begun = time.perf_counter()
        batch = as_batch(image[None])
        with torch.no_grad():
            output = self._network(batch)
            z = output.pre_activation
            gaps = measure_gaps(z, self._features).rows()[0]
            distance = float((self._activate(z[0]) - self._activated).norm())
            inside = bool(collides(z, self._widened)[0])
        chances = output.probabilities[0].cpu()
        values, indices = chances.topk(min(NUM_CLASSES, len(chances)))
        norm = float(self._activated.norm())
        return {
            "top": [
                self._class_row(int(index), float(value))
                for index, value in zip(indices, values, strict=True)
            ],
            "target": self._class_row(self._class, float(chances[self._class])),
            "gaps": gaps,
            "feature_distance": distance,
            "feature_distance_relative": distance / norm if norm else None,
            "membership": {
                "collides_class": int(chances.argmax()) == self._class,
                "inside": inside,
                "tolerance": self._tolerance,
                "tolerance_relative": MEMBERSHIP_TOLERANCE,
            },
            "random_pairs": self._random_pairs(gaps["active_gap_mean_relative"]),
            "distances": self._distances(batch),
            "milliseconds": 1000 * (time.perf_counter() - begun),
        }

    def _class_row(self, index: int, probability: float) -> dict[str, Any]:
        name = self._network.class_name(index)
        return {"class": index, "class_name": name, "probability": probability}

    def _activate(self, z: Float[Tensor, "units"]) -> Float[Tensor, "units"]:
        # A copy: the activation may work in place.
        activation = self._network.module.get_submodule(self._network.layer)
        activated: Tensor = activation(z[None].clone())
        return activated[0]

    def _distances(self, batch: Float[Tensor, "1 channels height width"]) -> dict[str, Any]:
        def distance(others: Tensor) -> Tensor:
            return (255 * (others - batch)).square().sum(dim=(1, 2, 3)).sqrt()

        nearest, number = distance(self._vertices).min(dim=0)
        return {
            "source": float(distance(self._source)[0]),
            "nearest_vertex": float(nearest),
            "nearest_vertex_number": int(number),
        }

    def _random_pairs(self, gap: float) -> dict[str, Any] | None:
        """Bounds the share of random pairs below a gap by the quantiles that a summary keeps."""
        if not self._null:
            return None
        quantiles = np.array(self._null["quantiles"]["active_gap_mean_relative"])
        shares = [0.0, *QUANTILES, 1.0]
        place = int((quantiles < gap).sum())
        return {
            "num_pairs": self._null["num_pairs"],
            "nearer_at_least": shares[place],
            "nearer_at_most": shares[place + 1],
        }
