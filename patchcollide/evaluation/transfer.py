"""Whether what collides at one layer of one network collides at others: a matrix of both.

Pure measurements of images, cell by cell; :mod:`patchcollide.runs.transfer` takes them of runs.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
import torch

from patchcollide.evaluation.gaps import Gaps, finite, gaps_of_pairs, measure_gaps
from patchcollide.io.provenance import Encoded, versions
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from patchcollide.networks.trace import run_capturing, units_of_layers
from patchcollide.shapes import Float, Int64, Tensor, ndarray
from patchcollide.torch_modes import proof_modes

_MOST_KEPT_VALUES = 2**27
"""Pre-activations of random images that are kept at a time: 512 MB."""

_BATCH_SIZE = 8

ENCODING, VERSION = "transfer", 2


@dataclass(frozen=True)
class Figures:
    """How nearly images collide with a target at a layer.

    Attributes:
        in_class: The share that the network puts in the class that it gives the target.
        feature_distance: Mean of
            :attr:`patchcollide.evaluation.gaps.Gaps.feature_distance_relative`, behind the
            activation; 1 is as far as a layer that says nothing. Infinite where a target says
            nothing itself.
        inactive_response: Mean share of blind units that respond.
    """

    in_class: float
    feature_distance: float
    inactive_response: float


@dataclass(frozen=True)
class LayeredFeatures:
    """An image that others may collide with, at several layers of a network.

    Attributes:
        features: By layer.
        class_index: The most probable class.
        probability: Its probability.
    """

    features: Mapping[str, TargetFeatures]
    class_index: int
    probability: float


@proof_modes()
def features_at(
    network: CollisionNetwork,
    layers: Mapping[str, BlindRegions],
    image: Float[Tensor, "1 channels height width"],
) -> LayeredFeatures:
    """Returns what a network makes of a target, at all layers in one pass.

    Args:
        network: The network.
        layers: Own names of layers, and where they are blind.
        image: In ``[0, 1]``, of any size.
    """
    features: dict[str, TargetFeatures] = {}

    def keep(layer: str, z: Tensor) -> None:
        features[layer] = TargetFeatures.of(z[0].clone(), layers[layer])

    logits = run_capturing(network, image, layers, keep)
    probability, index = logits[0].softmax(dim=0).max(dim=0)
    return LayeredFeatures(features, int(index), float(probability))


@proof_modes()
def measure_transfer(
    network: CollisionNetwork,
    target: LayeredFeatures,
    batches: Iterable[Float[Tensor, "_ channels height width"]],
) -> dict[str, Figures]:
    """Measures how nearly images collide with a target, at its layers, in one pass of each image.

    Args:
        network: The network of the target.
        target: As :func:`features_at` gives it.
        batches: Images in ``[0, 1]``, at least one.
    """
    gaps: dict[str, list[Gaps]] = {layer: [] for layer in target.features}
    hits, total = 0, 0

    def measure(layer: str, z: Tensor) -> None:
        gaps[layer].append(measure_gaps(z, target.features[layer]))

    for images in batches:
        logits = run_capturing(network, images, target.features, measure)
        hits += int((logits.argmax(dim=1) == target.class_index).sum())
        total += len(images)
    return {layer: _figures(hits / total, Gaps.joined(parts)) for layer, parts in gaps.items()}


@proof_modes()
def measure_pairs(
    network: CollisionNetwork,
    layers: Mapping[str, BlindRegions],
    images: Float[Tensor, "images channels height width"],
    pairs: Int64[ndarray, "pairs 2"],
) -> dict[str, Figures]:
    """Measures each pair of images as if the first were to collide with the second.

    Args:
        network: The network.
        layers: Own names of layers, and where they are blind.
        images: In ``[0, 1]``, that nobody made collide.
        pairs: Numbers of images; at least one pair.
    """
    found: dict[str, Figures] = {}
    for group in _groups(network, layers, len(images)):
        kept: dict[str, list[Tensor]] = {layer: [] for layer in group}
        classes = []
        for batch in torch.split(images, _BATCH_SIZE):
            logits = run_capturing(network, batch, group, functools.partial(_keep, kept))
            classes.append(logits.argmax(dim=1))
        of_each = torch.cat(classes).cpu().numpy()[pairs]
        same = float(np.mean(of_each[:, 0] == of_each[:, 1]))
        for layer in group:
            null = gaps_of_pairs(torch.cat(kept.pop(layer)), layers[layer], pairs)
            found[layer] = _figures(same, null)
    return found


def _keep(kept: dict[str, list[Tensor]], layer: str, z: Tensor) -> None:
    kept[layer].append(z.clone())


def _groups(
    network: CollisionNetwork, layers: Mapping[str, BlindRegions], num_images: int
) -> Iterator[Sequence[str]]:
    """Yields the layers in groups whose values, of all images, can be kept together."""
    units = units_of_layers(network)
    group: list[str] = []
    for layer in layers:
        values = num_images * sum(units.get(name, 0) for name in [*group, layer])
        if group and values > _MOST_KEPT_VALUES:
            yield group
            group = []
        group.append(layer)
    if group:
        yield group


def _figures(in_class: float, gaps: Gaps) -> Figures:
    return Figures(
        in_class,
        float(gaps.feature_distance_relative.double().mean()),
        float(gaps.inactive_response_share.double().mean()),
    )


@dataclass(frozen=True)
class Cell:
    """A run at a layer of a network.

    Attributes:
        run: Its name.
        network: Its label.
        layer: The layer's own name.
        own: Whether the run was made for this layer of this network.
        target_class: What the network takes the run's target for.
        target_probability: How sure of it the network is.
        num_units: Of the layer.
        num_active: Of them active at the target.
        hull: Points between the run's vertices.
        source: The run's source alone: what nobody made collide; None if it is the target.
    """

    run: str
    network: str
    layer: str
    own: bool
    target_class: str
    target_probability: float
    num_units: int
    num_active: int
    hull: Figures
    source: Figures | None


class RunNamed(TypedDict):
    """A run, as the file names it."""

    run: str
    path: str
    fingerprint: str


class NetworkNamed(TypedDict):
    """A network, its digest, and the layers that runs were measured at."""

    network: str
    digest: str
    layers: list[str]


class TransferAbout(TypedDict):
    """What was measured: paths, digests, settings and the seed."""

    runs: list[RunNamed]
    networks: list[NetworkNamed]
    images: str | None
    settings: dict[str, Any]
    seed: int


class TransferFile(Encoded, TransferAbout):
    """What the JSON file holds: ``cells`` and ``null`` as dataclasses have them."""

    num_samples: dict[str, int]
    cells: list[dict[str, object]]
    null: list[dict[str, object]]
    versions: dict[str, str]


@dataclass(frozen=True)
class TransferMatrix:
    """All cells, run by run within a network, in the order of networks and layers.

    Attributes:
        cells: One for each run at each layer of each network.
        null: Random pairs of the data set's images, by network and layer; empty without images.
        num_samples: How many points between each run's vertices, by run.
        about: Paths, digests, settings and the seed.
    """

    cells: tuple[Cell, ...]
    null: Mapping[tuple[str, str], Figures]
    num_samples: Mapping[str, int]
    about: TransferAbout

    @property
    def runs(self) -> list[str]:
        """The names of the runs."""
        return list(dict.fromkeys(cell.run for cell in self.cells))

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Networks and layers."""
        return list(dict.fromkeys((cell.network, cell.layer) for cell in self.cells))

    def at(self, run: str, column: tuple[str, str]) -> Cell:
        """Returns the cell of a run at a network's layer."""
        found = (
            cell for cell in self.cells if (cell.run, cell.network, cell.layer) == (run, *column)
        )
        return next(found)

    def as_json(self) -> TransferFile:
        """Returns what a JSON file holds."""
        return {
            "encoding-type": ENCODING,
            "encoding-version": VERSION,
            **self.about,
            "num_samples": dict(self.num_samples),
            "cells": [_plain(asdict(cell)) for cell in self.cells],
            "null": [
                {"network": network, "layer": layer, **_plain(asdict(figures))}
                for (network, layer), figures in self.null.items()
            ],
            "versions": versions(),
        }


def _plain(value: Any) -> Any:
    """Returns a nested value with None for infinite numbers, which JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return finite(value) if isinstance(value, float) else value
