"""Short descriptors of patches: principal components, from products in whole numbers.

A component is kept as a filter of 8-bit integers, so that its products with patches are whole, and
a small triangular matrix that makes the rounded filters orthonormal again. What little the rounding
turns the components costs no correctness, and next to nothing of the variance they hold. Where the
grid allows it filters are constant on blocks of pixels, of which the sums are all that is needed.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch

from patchcollide.errors import IndexMismatchError, StoreError
from patchcollide.geometry import PatchGrid
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.io.provenance import versions
from patchcollide.shapes import Float32, Float64, Int8, Tensor, UInt8, ndarray
from patchcollide.store.blocks import BlockFilters, Blocks, BlockSums
from patchcollide.store.index_files import Build
from patchcollide.store.integer_products import centred, inner_products, window_rows
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

ENCODING = "patchcollide-basis"
VERSION = "2"

_LARGEST = 127
_PATCHES_AT_ONCE = 4096
IMAGES_AT_ONCE = 16
"""Images that are described at once."""


@dataclass(frozen=True)
class Basis:
    """The first principal components of a store's patches.

    The descriptor of a patch ``x`` is ``transform @ filters @ (x - 128)``: its coordinates along
    orthonormal directions, by falling variance.

    Attributes:
        filters: The components in 8 bits, in height, width, channel order.
        transform: Lower triangular; makes the filters orthonormal.
        variance_share: Share of the variance that the components hold, 0 to 1.
        blocks: Those that the filters are constant on; None if they are on none.
    """

    filters: Int8[ndarray, "components dimension"]
    transform: Float32[ndarray, "components components"]
    variance_share: float
    blocks: Blocks | None = None

    @property
    def num_components(self) -> int:
        """Length of a descriptor."""
        return len(self.filters)

    def first(self, num_components: int) -> "Basis":
        """Returns the basis of the first components alone, at most as many as there are."""
        # The transform is triangular: the first rows do not know of the later ones.
        few = slice(num_components)
        return replace(self, filters=self.filters[few], transform=self.transform[few, few])

    @cached_property
    def skewness(self) -> float:
        """How far ``transform @ filters`` is from orthonormal rows, in the spectral norm.

        The products of the filters are whole numbers that float64 holds; what rounding the rest
        suffers is far below the doubling here.
        """
        wide, change = self.filters.astype(np.float64), self.transform.astype(np.float64)
        gram = change @ (wide @ wide.T) @ change.T
        excess = np.linalg.norm(gram - np.eye(len(gram)), ord=2)
        return 2 * float(excess) + 1e-12

    @cached_property
    def rounding(self) -> float:
        """Bound on the error of a computed descriptor, as a share of the norm of its patch.

        With ``u = 2**-24`` and ``n`` rounded terms a sum is off by at most ``n u / (1 - n u)`` of
        the sum of absolute terms, in whatever order it is added (Higham, "Accuracy and Stability of
        Numerical Algorithms", section 3.1); norms of the matrices bound the latter.
        """
        roundings = (self.num_components + 2) * 2.0**-24
        change = np.linalg.norm(self.transform.astype(np.float64))
        wide = np.linalg.norm(self.filters.astype(np.float64), ord=2)
        return float(1.001 * roundings / (1 - roundings) * change * wide)

    @cached_property
    def block_filters(self) -> BlockFilters | None:
        """The filters, one value for each block, if they are constant on blocks."""
        return (
            BlockFilters(self.blocks, self.blocks.values_of(self.filters)) if self.blocks else None
        )

    @proof_modes()
    def describe_rows(self, rows: Int8[Tensor, "n bytes"]) -> Float32[Tensor, "n components"]:
        """Returns the descriptors of centred patches, on the device they are on.

        Rows are those of :meth:`patchcollide.store.blocks.Blocks.rows` if there are blocks.
        """
        transform = torch.from_numpy(self.transform).to(rows.device)
        if self.block_filters:
            products = self.block_filters.products(rows)
        else:
            products = inner_products(rows, torch.from_numpy(self.filters).to(rows.device))
        return products.float() @ transform.T

    @proof_modes()
    def describe_patches(
        self, patches: UInt8[ndarray, "n size size 3"]
    ) -> Float32[ndarray, "n components"]:
        """Returns the descriptors of separate patches."""
        result = np.empty((len(patches), self.num_components), np.float32)
        for start in range(0, len(patches), _PATCHES_AT_ONCE):
            part = slice(start, start + _PATCHES_AT_ONCE)
            if self.blocks:
                rows = self.blocks.rows_of_patches(patches[part])
            else:
                flat = centred(patches[part]).reshape(-1, self.filters.shape[1])
                rows = torch.from_numpy(flat)
            result[part] = self.describe_rows(rows).numpy()
        return result

    @proof_modes()
    def describe_images(
        self, images: UInt8[ndarray, "n side side 3"], grid: PatchGrid
    ) -> Float32[ndarray, "patches components"]:
        """Returns the descriptors of all patches of ``images``, in the order of identifiers."""
        if self.blocks:
            return self.describe_sums(self.blocks.summed(images))
        blocks = [np.empty((0, self.num_components), np.float32)]
        for start in range(0, len(images), IMAGES_AT_ONCE):
            pixels = centred(grid.reduce(images[start : start + IMAGES_AT_ONCE]))
            rows = window_rows(torch.from_numpy(pixels), grid)
            blocks.append(self.describe_rows(rows).numpy())
        return np.concatenate(blocks)

    @proof_modes()
    def describe_sums(self, images: BlockSums) -> Float32[ndarray, "patches components"]:
        """Returns what :meth:`describe_images` does, from the sums of the images' blocks.

        Only a basis with blocks can do that.
        """
        blocks = cast("Blocks", self.blocks)
        found = [np.empty((0, self.num_components), np.float32)]
        for start in range(0, len(images.sums), IMAGES_AT_ONCE):
            sums = torch.from_numpy(images.sums[start : start + IMAGES_AT_ONCE])
            found.append(self.describe_rows(blocks.rows(sums)).numpy())
        return np.concatenate(found)

    def save(self, path: Path, *, store: PatchStore, settings: Build) -> None:
        """Writes the basis, the store it belongs to, and the settings and seed it came from."""
        write_hdf5(
            path,
            encoding=ENCODING,
            version=VERSION,
            datasets={"filters": self.filters, "transform": self.transform},
            attributes={
                "store": store.fingerprint,
                "settings": settings,
                "variance_share": self.variance_share,
                "block_px": self.blocks.side if self.blocks else 1,
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
            if file.attribute("store") not in store.generations:
                raise IndexMismatchError(
                    f"{path} was fitted to another store than {store.path}. Remove {path} and "
                    "run `patchcollide index` again."
                )
            filters = file.array("filters", np.int8, (None, store.grid.dimension))
            # Those of before are constant on no blocks.
            side = file.attribute("block_px") if file.has_attribute("block_px") else 1
            blocks = Blocks.of(store.grid) if side != 1 else None
            if side != (blocks.side if blocks else 1):
                raise IndexMismatchError(
                    f"{path} is damaged (it has blocks of {side} pixels). Remove it and run "
                    "`patchcollide index` again."
                )
            return cls(
                filters=filters,
                transform=file.array("transform", np.float32, (len(filters), len(filters))),
                variance_share=float(file.attribute("variance_share")),
                blocks=blocks,
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
    patches = store.patches(sample_ids(store, num_patches, seed))
    blocks = Blocks.of(store.grid)
    if blocks and num_components <= blocks.width:
        rows = blocks.values(blocks.rows_of_patches(patches)).numpy()
    else:
        blocks, rows = None, patches.reshape(len(patches), -1)
    covariance = _covariance(rows)
    filters = principal_filters(covariance, num_components)
    wide = filters.astype(np.float64)
    scale = blocks.side**2 if blocks else 1
    transform = np.linalg.inv(np.linalg.cholesky(scale * (wide @ wide.T)))
    directions = transform @ wide
    held = float(np.einsum("ij,jk,ik->", directions, covariance, directions, optimize=True))
    total = _variance(patches.reshape(len(patches), -1)) if blocks else float(covariance.trace())
    return Basis(
        blocks.spread(filters) if blocks else filters,
        transform.astype(np.float32),
        variance_share=min(held / max(total, np.finfo(np.float64).tiny), 1.0),
        blocks=blocks,
    )


def _covariance(rows: np.ndarray) -> Float64[ndarray, "width width"]:
    flat = rows.astype(np.float32)
    flat -= flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray((flat.T @ flat).astype(np.float64) / len(flat))


def _variance(rows: UInt8[ndarray, "n dimension"]) -> float:
    """Returns the sum of the variances of all columns, in whole numbers until the last step."""
    total = rows.sum(axis=0, dtype=np.int64)
    squares = sum(
        int(np.square(few, dtype=np.int32).sum(dtype=np.int64))
        for few in np.array_split(rows, -(-len(rows) // _PATCHES_AT_ONCE))
    )
    return (squares - float(np.square(total.astype(np.float64)).sum()) / len(rows)) / len(rows)


def principal_filters(
    covariance: Float64[ndarray, "width width"], num_components: int
) -> Int8[ndarray, "components width"]:
    """Returns the first eigenvectors, each scaled to the whole range of 8 bits and rounded."""
    components = np.linalg.eigh(covariance)[1][:, ::-1][:, :num_components].T
    # The sign of an eigenvector is arbitrary: fix it, so that a basis is the same everywhere.
    places = np.abs(components).argmax(axis=1)[:, None]
    largest = np.take_along_axis(components, places, axis=1)
    return np.asarray(np.rint(components / largest * _LARGEST).astype(np.int8))


def sample_ids(store: PatchStore, num_patches: int, seed: int) -> np.ndarray:
    """Returns identifiers of randomly chosen patches of the readable images, sorted.

    There are ``num_patches`` of them, or as many as there are.
    """
    readable = np.flatnonzero(store.valid)
    available = len(readable) * store.grid.num_positions
    rng = np.random.default_rng(seed)
    chosen = rng.choice(available, size=min(num_patches, available), replace=False)
    images, positions = np.divmod(np.sort(chosen), store.grid.num_positions)
    return np.asarray(readable[images] * store.grid.num_positions + positions)
