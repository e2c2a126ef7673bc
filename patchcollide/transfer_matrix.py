"""A transfer matrix: how nearly runs collide at layers of networks, cell by cell."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from patchcollide.gaps import finite
from patchcollide.provenance import versions
from patchcollide.transfers import Figures

ENCODING, VERSION = "transfer", 2


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


@dataclass(frozen=True)
class TransferMatrix:
    """All cells, run by run within a network, in the order of networks and layers.

    Attributes:
        cells: One for each run at each layer of each network.
        null: Random pairs of the data set's images, by network and layer; empty without images.
        num_samples: How many points between each run's vertices, by run.
        about: Paths, digests, settings, seeds and versions.
    """

    cells: tuple[Cell, ...]
    null: Mapping[tuple[str, str], Figures]
    num_samples: Mapping[str, int]
    about: Mapping[str, Any]

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

    def as_json(self) -> dict[str, Any]:
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


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Returns nested values with None for infinite numbers, which JSON cannot hold."""
    return {
        name: _plain(value)
        if isinstance(value, dict)
        else finite(value)
        if isinstance(value, float)
        else value
        for name, value in values.items()
    }
