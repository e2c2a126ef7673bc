"""Short descriptors of patches: principal components, computed as one strided convolution."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcollide.errors import IndexMismatchError, StoreError
from patchcollide.geometry import PatchGrid
from patchcollide.hdf5 import open_hdf5, write_hdf5
from patchcollide.provenance import versions
from patchcollide.shapes import Float32, UInt8, ndarray
from patchcollide.store import PatchStore

ENCODING = "patchcollide-basis"
VERSION = "1"
_PATCHES_AT_ONCE = 4096


@dataclass(frozen=True)
class Basis:
    """The first principal components of a store's patches.

    Attributes:
        mean: Mean patch, values 0 to 255, as a vector in height, width, channel order.
        components: Orthonormal rows, by falling variance.
        variance_share: Share of the variance that the components hold, 0 to 1.
    """

    mean: Float32[ndarray, "dimension"]
    components: Float32[ndarray, "components dimension"]
    variance_share: float

    @property
    def num_components(self) -> int:
        """Length of a descriptor."""
        return len(self.components)

    def describe_patches(
        self, patches: UInt8[ndarray, "n size size 3"]
    ) -> Float32[ndarray, "n components"]:
        """Returns the descriptors of separate patches, by a matrix product."""
        result = np.empty((len(patches), self.num_components), np.float32)
        for start in range(0, len(patches), _PATCHES_AT_ONCE):
            part = slice(start, start + _PATCHES_AT_ONCE)
            flat = patches[part].reshape(-1, len(self.mean)).astype(np.float32)
            result[part] = (flat - self.mean) @ self.components.T
        return result

    def describe_images(
        self, images: UInt8[ndarray, "n side side 3"], grid: PatchGrid
    ) -> Float32[ndarray, "patches components"]:
        """Returns the descriptors of all patches of ``images``, by a convolution.

        No patch is copied: the components are the filters of one convolution at the grid's stride.
        """
        size = grid.patch_size
        filters = torch.from_numpy(self.components.reshape(-1, size, size, 3)).permute(0, 3, 1, 2)
        offset = torch.from_numpy(self.components @ self.mean)
        pixels = torch.from_numpy(np.array(grid.reduce(images)))
        projected = torch.nn.functional.conv2d(
            pixels.permute(0, 3, 1, 2).float(),
            filters.contiguous(),
            bias=-offset,
            stride=grid.stride // grid.factor,
        )
        return projected.permute(0, 2, 3, 1).reshape(-1, self.num_components).numpy()

    def save(self, path: Path, *, store: PatchStore, settings: dict[str, Any]) -> None:
        """Writes the basis, the store it belongs to, and the settings and seed it came from."""
        write_hdf5(
            path,
            encoding=ENCODING,
            version=VERSION,
            datasets={"mean": self.mean, "components": self.components},
            attributes={
                "store": store.fingerprint,
                "settings": settings,
                "variance_share": self.variance_share,
                "versions": versions(),
            },
        )

    @classmethod
    def load(cls, path: Path, *, store: PatchStore) -> "Basis":
        """Reads a basis.

        Raises:
            IndexMismatchError: If it is missing, damaged or was fitted to another store.
        """
        with open_hdf5(path, encoding=ENCODING, version=VERSION, error=IndexMismatchError) as file:
            if file.attribute("store") != store.fingerprint:
                raise IndexMismatchError(
                    f"{path} was fitted to another store than {store.path}. Remove {path} and "
                    "run `patchcollide index` again."
                )
            dimension = store.grid.dimension
            return cls(
                mean=file.array("mean", np.float32, (dimension,)),
                components=file.array("components", np.float32, (None, dimension)),
                variance_share=float(file.attribute("variance_share")),
            )


def fit_basis(store: PatchStore, *, num_components: int, num_patches: int, seed: int) -> Basis:
    """Finds the principal components of a random sample of a store's patches.

    Args:
        store: Patches of images that could be read are sampled.
        num_components: At most the dimension of a patch.
        num_patches: How many patches to sample.
        seed: Decides the sample.

    Raises:
        StoreError: If more components are asked for than patches have dimensions.
    """
    dimension = store.grid.dimension
    if num_components > dimension:
        raise StoreError(
            f"{store.path} holds patches of {dimension} values, but index.components = "
            f"{num_components}. Set index.components to at most {dimension}."
        )
    patches = sample_patches(store, num_patches, seed)
    flat = patches.reshape(len(patches), -1).astype(np.float32)
    mean = flat.mean(axis=0, dtype=np.float64)
    centred = flat - mean.astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / len(flat)
    variances, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :num_components].T
    # The sign of an eigenvector is arbitrary: fix it, so that a basis is the same everywhere.
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], axis=1)
    components = components * np.where(largest < 0, -1, 1)
    total = max(float(variances.sum()), np.finfo(np.float64).tiny)
    return Basis(
        mean=mean.astype(np.float32),
        components=np.ascontiguousarray(components, dtype=np.float32),
        variance_share=float(variances[::-1][:num_components].sum()) / total,
    )


def sample_patches(
    store: PatchStore, num_patches: int, seed: int
) -> UInt8[ndarray, "n size size 3"]:
    """Returns randomly chosen patches of the readable images, at most as many as there are."""
    readable = np.flatnonzero(store.valid)
    available = len(readable) * store.grid.num_positions
    rng = np.random.default_rng(seed)
    chosen = rng.choice(available, size=min(num_patches, available), replace=False)
    images, positions = np.divmod(np.sort(chosen), store.grid.num_positions)
    return store.patches(readable[images] * store.grid.num_positions + positions)
