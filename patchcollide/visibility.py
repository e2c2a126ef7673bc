"""How large the differences between vertices are where people look.

People see coarse differences better than fine ones, so the differences are measured again after
blurring and halving, and divided by the size of the detail that they are in.
"""

import itertools
from typing import Any

import numpy as np

from patchcollide.shapes import Float64, UInt8, ndarray

VISIBLE_STEP = 8
MAX_PAIRS = 120
_SMALLEST_SIDE = 4
_SSIM_WINDOW = 7


def measure_visibility(
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> dict[str, Any]:
    """Measures the differences between vertices as people may see them.

    Args:
        vertices: RGB in 0..255. Of more than 120 pairs, 120 spread over all are measured.

    Returns:
        ``ssim_mean`` and ``ssim_min``: structural similarity of pairs, 1 for equal images;
        ``visible_share``: the share of pixels where some channel differs by more than 8 of 255;
        ``octaves``: for each size of detail, from pixels up, its share of the squared difference
        (``share``, which add up to 1; see :func:`octave_energies`); ``halved``: for each number of
        halvings, the root mean squared difference of a value in 0..255 (``rms``), from 0 on.
        ``num_pairs`` of them were measured. One vertex has no pairs: None and empty lists.
    """
    pairs = list(itertools.combinations(range(len(vertices)), 2))
    pairs = pairs[:: -(-len(pairs) // MAX_PAIRS)] if pairs else []
    if not pairs:
        names = ("ssim_mean", "ssim_min", "visible_share")
        return {"num_pairs": 0, **dict.fromkeys(names), "octaves": [], "halved": []}
    similar = [_similarity(vertices[a], vertices[b]) for a, b in pairs]
    exact = vertices.astype(np.float64)
    differences = np.stack([exact[a] - exact[b] for a, b in pairs])
    energies = np.sum([octave_energies(difference) for difference in differences], axis=0)
    total = energies.sum()
    return {
        "num_pairs": len(pairs),
        "ssim_mean": float(np.mean(similar)),
        "ssim_min": float(np.min(similar)),
        "visible_share": float((np.abs(differences).max(axis=-1) > VISIBLE_STEP).mean()),
        "octaves": [
            {"side_px": 2**octave, "share": float(energy / total) if total else 0.0}
            for octave, energy in enumerate(energies)
        ],
        "halved": [
            {"halvings": number, "rms": float(np.sqrt(np.mean(level**2)))}
            for number, level in enumerate(_halvings(differences))
        ],
    }


def octave_energies(
    image: Float64[ndarray, "height width channels"],
) -> Float64[ndarray, "octaves"]:
    """Splits an image's sum of squares by the size of the detail, into parts that add up to it.

    Part ``k`` is that of the means over blocks of ``2^k`` x ``2^k`` pixels, less their means over
    blocks twice as wide; the last part is that of the mean colour. The blocks are cut off at the
    right and the lower border.

    Gaussian and Laplacian pyramids look smoother but overlap, so shares of theirs add up to nothing
    in particular. Taking means over blocks, each made of whole smaller ones, is an orthogonal
    projection onto part of the one before (Haar's wavelets), so by Pythagoras squares add up.
    """
    sums, counts = image, np.ones((*image.shape[:2], 1))
    energies = [float((sums**2 / counts).sum())]
    while max(counts.shape) > 1:
        sums, counts = _in_twos(sums), _in_twos(counts)
        energies.append(float((sums**2 / counts).sum()))
    return -np.diff([*energies, 0.0])


def _in_twos(values: Float64[ndarray, "height width channels"]) -> np.ndarray:
    """Adds up blocks of 2 x 2, or what is left of one at a border."""
    for axis in (0, 1):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], 2), axis=axis)
    return values


def _halvings(differences: Float64[ndarray, "pairs height width channels"]) -> list[np.ndarray]:
    """Returns differences as they are, blurred and halved, and so on; blurring is linear."""
    # Takes a second to import, which only an evaluation should wait for.
    from skimage.transform import pyramid_reduce

    halve: Any = pyramid_reduce

    levels = [differences]
    while min(levels[-1].shape[1:3]) >= 2 * _SMALLEST_SIDE:
        levels.append(
            np.stack(
                [
                    halve(image, downscale=2, channel_axis=-1, preserve_range=True)
                    for image in levels[-1]
                ]
            )
        )
    return levels


def _similarity(
    first: UInt8[ndarray, "height width channels"], second: UInt8[ndarray, "height width channels"]
) -> float:
    from skimage.metrics import structural_similarity

    measure: Any = structural_similarity
    side = min(first.shape[:2])
    window = min(_SSIM_WINDOW, side - 1 + side % 2)
    if window < 3:
        return float(np.array_equal(first, second))
    return float(measure(first, second, data_range=255, channel_axis=-1, win_size=window))
