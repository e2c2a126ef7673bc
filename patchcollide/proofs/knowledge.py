"""What a proof knows so far, in memory and in a file, so that it can go on."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from patchcollide.errors import RunError
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.proofs.attack import Worst
from patchcollide.proofs.search import Cells

ENCODING, VERSION = "patchcollide-proof", "1"

_VALUES = ("weights", "bounds", "depths")


@dataclass(eq=False)
class Knowledge:
    """What a proof knows so far of what it bounds, by name, all from below.

    Attributes:
        cells: The simplices that the hull was cut into.
        worst: The worst points found.
    """

    cells: dict[str, Cells] = field(default_factory=dict)
    worst: dict[str, Worst] = field(default_factory=dict)

    def save(self, path: Path, digest: str) -> None:
        """Writes it into a file.

        Args:
            path: The file; an older one is replaced.
            digest: Of what it is known of.

        Raises:
            DiskFullError: If there is no room left.
        """
        datasets = {
            f"{name}-{value}": getattr(cells, value).numpy()
            for name, cells in self.cells.items()
            for value in _VALUES
        }
        datasets |= {f"{name}-worst": worst.weights.numpy() for name, worst in self.worst.items()}
        write_hdf5(
            path,
            encoding=ENCODING,
            version=VERSION,
            datasets=datasets,
            attributes={
                "digest": digest,
                "cells": {name: [c.bounded, c.seconds] for name, c in self.cells.items()},
                "worst": {name: worst.value for name, worst in self.worst.items()},
            },
        )

    @classmethod
    def load(cls, path: Path, digest: str) -> "Knowledge":
        """Reads what :meth:`save` wrote.

        Raises:
            RunError: If the file is damaged, or of something else.
        """
        known = cls()
        with open_hdf5(path, encoding=ENCODING, version=VERSION, error=RunError) as file:
            if file.attribute("digest") != digest:
                raise RunError(f"{path} is of other vertices or another network.")
            for name, (bounded, seconds) in file.attribute("cells").items():
                weights = file.array(f"{name}-weights", np.float64, (None, None, None))
                bounds = file.array(f"{name}-bounds", np.float64, (None,))
                depths = file.array(f"{name}-depths", np.int64, (None,))
                parts = torch.tensor(weights), torch.tensor(bounds), torch.tensor(depths)
                known.cells[name] = Cells(*parts, bounded, seconds)
            for name, value in file.attribute("worst").items():
                point = file.array(f"{name}-worst", np.float64, (None,))
                known.worst[name] = Worst(value, torch.tensor(point))
        return known
