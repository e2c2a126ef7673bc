"""What a collision is made of, and how it stands in the files of a run."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcollide.config import Config, overrides_of
from patchcollide.networks import CollisionNetwork
from patchcollide.provenance import array_digest, file_digest, printable
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store import PatchStore
from patchcollide.targets import Target

IN_MEMORY = Path("an image in memory")
"""Stands where the path of a file would."""


@dataclass(frozen=True)
class CollisionInputs:
    """What a collision is made of.

    Attributes:
        source_path: The source's file, or :data:`IN_MEMORY`.
        target_path: The target's file, or the same.
        source: The source as the network sees it.
        target: What vertices are to collide with.
        origin: Where patches come from: a store, or a file of neighbours found before; None if
            pixels vary freely.
        images: A folder of the data set's images, to compare with; None for the store's.
        exact: Whether vertices are found by linear programming.
        own_network: Whether the network is the caller's, which no settings can name.
    """

    source_path: Path
    target_path: Path
    source: UInt8[ndarray, "height width channels"]
    target: Target
    origin: PatchStore | Path | None
    images: Path | None = None
    exact: bool = False
    own_network: bool = False

    @property
    def store(self) -> PatchStore | None:
        """The store, if patches come from one."""
        return self.origin if isinstance(self.origin, PatchStore) else None

    @property
    def _kind(self) -> str:
        kind = "pixels" if self.origin is None else "patches"
        return f"{kind}, exact" if self.exact else kind

    def described(self, config: Config, network: CollisionNetwork, out: Path) -> dict[str, Any]:
        """Returns names and paths, and the command line that makes the run again, if one can."""
        return {
            "source": printable(self.source_path),
            "target": printable(self.target_path),
            "target_given_as": self.target.given_as,
            "target_image": self.target.image,
            "network": network.full_name,
            "network_given_as": "object" if self.own_network else "name",
            "layer": network.layer,
            "store": printable(self.store.path) if self.store else None,
            "neighbours": printable(self.origin) if isinstance(self.origin, Path) else None,
            "images": printable(self.images) if self.images else None,
            "parameterisation": self._kind,
            "command": self._command(config, out),
        }

    def identity(self, network: CollisionNetwork) -> dict[str, Any]:
        """Returns digests of all that decides the result beside the settings."""
        found = self.origin if isinstance(self.origin, Path) else None
        return {
            "source": array_digest(self.source),
            "target": self.target.digest,
            "network": network.digest,
            "layer": network.layer,
            "store": self.store.fingerprint if self.store else None,
            "neighbours": file_digest(found) if found else None,
            "parameterisation": self._kind,
        }

    def _command(self, config: Config, out: Path) -> str:
        if self.own_network or IN_MEMORY in (self.source_path, self.target_path):
            return "patchcollide.find_polytope(...) in Python, on what was in memory"
        words = ["patchcollide", "exact" if self.exact else "collide"]
        words += ["--source", printable(self.source_path), "--target", printable(self.target_path)]
        if isinstance(self.origin, PatchStore):
            words += ["--store", printable(self.origin.path)]
        else:
            free = [] if self.exact else ["--pixels"]
            words += ["--neighbours", printable(self.origin)] if self.origin else free
        words += ["--images", printable(self.images)] if self.images else []
        words += ["--out", printable(out)]
        for override in overrides_of(config):
            words += ["--set", override]
        return shlex.join(words)
