"""Inner products of patches with filters: 8-bit values, whole numbers throughout.

Values are centred, ``x - 128``, which fits eight signed bits and changes no distance. A product of
two centred values is at most ``2**14``, so a sum of 1024 of them is at most ``2**24``, up to where
float32 holds every whole number: such a sum is right in whatever order it is added. That gives two
kernels for one and the same answer: 8-bit matrix units with 32-bit sums, and float32 in parts of
1024. Which one runs is decided by trying both on this machine, against 64-bit integers, at every
kind of shape that is then asked for: kernels of torch 2.14.1 are right but where patches have one
value.
"""

import functools
import logging
import math
import time
from collections.abc import Callable

import numpy as np
import torch

from patchcollide.geometry import PatchGrid
from patchcollide.parallel import one_thread_each
from patchcollide.shapes import Int8, Int32, Int64, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)

CENTRE = 128
"""What is subtracted from a pixel value."""

_WHOLE_TERMS = 1024
_IMAGES_AT_ONCE = 2
# Of rows times columns: three squares each, at most 2**14, stay below 2**24 together.
_WHOLE_STRIP = 341

# Kernels cut matrices into blocks of so many rows; what is left over, and little, go other ways.
_BLOCK = 16
# Rows and filters that differ in a trial; a prime, so that no two blocks of a matrix are alike.
_DIFFERENT = 61
_USUAL_SHAPE = 512, 96, 3072

Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def centred(pixels: UInt8[ndarray, "..."]) -> Int8[ndarray, "..."]:
    """Returns ``pixels - 128``."""
    # Flipping the highest bit of an unsigned byte subtracts 128 from it as a signed one.
    return np.asarray(np.bitwise_xor(pixels, np.uint8(CENTRE)).view(np.int8))


def window_rows(
    images: Int8[Tensor, "n side side 3"],
    grid: PatchGrid,
    chosen: Int64[Tensor, "patches"] | None = None,
) -> Int8[Tensor, "patches dimension"]:
    """Returns the patches of ``images``, already reduced and centred, as rows of a matrix.

    Args:
        images: The images.
        grid: Their geometry.
        chosen: Which of their patches; None for all, in order.
    """
    n, side = images.shape[:2]
    size, step, places = grid.patch_size, grid.stride // grid.factor, grid.positions_per_side
    row, image = 3 * side, 3 * side * side
    shape = (n, places, places, size, 3 * size)
    strides = (image, step * row, step * 3, row, 1)
    windows = images.contiguous().as_strided(shape, strides)
    if chosen is not None:
        positions = chosen % grid.num_positions
        windows = windows[chosen // grid.num_positions, positions // places, positions % places]
    return windows.reshape(-1, grid.dimension)


@proof_modes()
def squared_norms(
    images: Int8[Tensor, "n side side 3"], grid: PatchGrid
) -> Int32[Tensor, "patches"]:
    """Returns the squared norm of each row of :func:`window_rows`, without making the rows."""
    n, side = images.shape[:2]
    step, size = grid.stride // grid.factor, grid.patch_size
    # Windows begin and end between strips of so many rows, of which few sums are still whole.
    most = max(_WHOLE_STRIP // size, 1)
    strip = max(d for d in range(1, most + 1) if step % d == 0 and size % d == 0)
    inside = torch.zeros(grid.positions_per_side, side, device=images.device)
    for place in range(grid.positions_per_side):
        inside[place, place * step : place * step + size] = 1
    across = inside.repeat_interleave(3, dim=1)
    sums = []
    # Squares of few images stay in the cache.
    for few in torch.split(images.reshape(n, side, 3 * side), _IMAGES_AT_ONCE):
        squares = few[:, : side // strip * strip].float().square_()
        strips = squares.reshape(len(few), side // strip, strip, 3 * side).sum(dim=2)
        sums.append(strips @ across.T)
    down = inside[:, ::strip].double()
    return (down[:, : side // strip] @ torch.cat(sums).double()).flatten().to(torch.int32)


@proof_modes()
def row_norms(rows: Int8[Tensor, "n dimension"]) -> Int32[Tensor, "n"]:
    """Returns the squared norm of each row."""
    total = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)
    for start in range(0, rows.shape[1], _WHOLE_TERMS):
        total += rows[:, start : start + _WHOLE_TERMS].float().square_().sum(dim=1).to(torch.int32)
    return total


@proof_modes()
def inner_products(
    rows: Int8[Tensor, "n dimension"], filters: Int8[Tensor, "m dimension"]
) -> Int32[Tensor, "n m"]:
    """Returns the inner products of all rows with all filters, exactly."""
    if not len(rows) or not len(filters):
        return torch.zeros(len(rows), len(filters), dtype=torch.int32, device=rows.device)
    shape = _tried_size(len(rows)), _tried_size(len(filters)), rows.shape[1]
    return _kernel(rows.device.type, *shape)(rows, filters)


def _by_integers(rows: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    if not rows.is_cuda:
        return torch._int_mm(rows, filters.T)
    # CUDA wants more than 16 rows, and multiples of eight.
    padded_rows = _padded(rows, max(32, -(-len(rows) // 8) * 8))
    padded_filters = _padded(filters, -(-len(filters) // 8) * 8)
    return torch._int_mm(padded_rows, padded_filters.T)[: len(rows), : len(filters)]


def _padded(matrix: torch.Tensor, length: int) -> torch.Tensor:
    width = -matrix.shape[1] % 8
    return torch.nn.functional.pad(matrix, (0, width, 0, length - len(matrix)))


def _by_floats(rows: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(len(rows), len(filters), dtype=torch.int32, device=rows.device)
    for start in range(0, rows.shape[1], _WHOLE_TERMS):
        part = slice(start, start + _WHOLE_TERMS)
        total += (rows[:, part].float() @ filters[:, part].float().T).to(torch.int32)
    return total


def _tried_size(num: int) -> int:
    """Returns how many rows are tried in place of ``num``.

    Few are tried as they are. For more it is four blocks, of which the last lacks nothing, 8, 4, 2
    or 1: what is divisible by the same powers of two stands for ``num``.
    """
    return num if num <= _BLOCK else 4 * _BLOCK - math.gcd(num, _BLOCK) % _BLOCK


@functools.cache
def _kernel(device: str, num_rows: int, num_filters: int, dimension: int) -> Kernel:
    """Returns the fastest kernel that gives the right answer at a shape on this machine."""
    for kernel in _kernels(device):
        if _is_right(kernel, device, num_rows, num_filters, dimension):
            return kernel
    raise RuntimeError(
        f"no kernel for integer products gives the right answer on {device}, at {num_rows} rows "
        f"and {num_filters} filters of {dimension} values"
    )


def _is_right(kernel: Kernel, device: str, num_rows: int, num_filters: int, dimension: int) -> bool:
    """Says whether a kernel can run at a shape and agrees with 64-bit integers there."""
    rows, filters, expected = _trial(dimension)
    # From two places: what the first answer left in memory cannot pass for the second.
    for start in (0, 1):
        few, some = _repeated(num_rows, start), _repeated(num_filters, start)
        try:
            found = kernel(rows[few].to(device), filters[some].to(device)).cpu()
        except (RuntimeError, AttributeError) as error:
            logger.debug("%s: %s cannot run (%s)", device, kernel.__name__, error)
            return False
        # Some processors add pairs of 8-bit products in 16 bits, which overflow.
        if not torch.equal(found, expected[few][:, some]):
            shape = num_rows, num_filters, dimension
            logger.debug("%s: %s is wrong at %s", device, kernel.__name__, shape)
            return False
    return True


def _repeated(num: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + num) % _DIFFERENT


@functools.lru_cache(maxsize=4)
def _trial(
    dimension: int,
) -> tuple[Int8[Tensor, "n dimension"], Int8[Tensor, "n dimension"], Int32[Tensor, "n n"]]:
    """Returns rows, filters and their products; among them the largest sums there are."""
    rng = np.random.default_rng(dimension)
    shape = _DIFFERENT, dimension
    rows, filters = (rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(2))
    rows[:4, :] = [[-128], [127], [-128], [-127]]
    rows[2, 1::2], filters[2, 1::2] = 127, 127
    filters[:4, :] = [[-128], [127], [-128], [-127]]
    expected = rows.astype(np.int64) @ filters.astype(np.int64).T
    return torch.from_numpy(rows), torch.from_numpy(filters), torch.from_numpy(expected).int()


@functools.cache
def _kernels(device: str) -> tuple[Kernel, ...]:
    """Returns the kernels that are right at a usual shape on this machine, the fastest first."""
    num_rows, num_filters, dimension = _USUAL_SHAPE
    rows, filters, _ = _trial(dimension)
    rows = rows[_repeated(num_rows)].to(device)
    filters = filters[_repeated(num_filters)].to(device)
    seconds = {}
    # With one thread, so that others that compute meanwhile do not decide.
    with one_thread_each():
        for kernel in (_by_integers, _by_floats):
            if _is_right(kernel, device, *_USUAL_SHAPE):
                seconds[kernel] = _fastest_of_five(kernel, rows, filters)
    logger.debug("%s: %s", device, {kernel.__name__: s for kernel, s in seconds.items()})
    # A busy machine may time them the wrong way round; whole numbers are several times faster
    # where the processor has instructions for them, and slower by far where it has not.
    if _by_floats in seconds:
        seconds[_by_floats] *= 3
    return tuple(sorted(seconds, key=seconds.__getitem__))


def _fastest_of_five(kernel: Kernel, rows: torch.Tensor, filters: torch.Tensor) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        kernel(rows, filters).cpu()
        times.append(time.perf_counter() - start)
    return min(times)
