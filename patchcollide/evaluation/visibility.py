"""How large the differences between vertices are where people look.

People see coarse differences better than fine ones, so the squared difference is split by the size
of the detail that it is in, by spatial frequency, and measured again after blurring and halving.
No single figure says what is seen. Structural similarity (SSIM) compares patterns within 7 pixels:
noise that nobody minds ruins it, and a change of brightness that everybody sees leaves it. So
yardsticks, both of these measured on the same image, belong beside every figure.
"""

import itertools
from typing import Any, NotRequired, TypedDict

import numpy as np

from patchcollide.shapes import Float64, Int64, UInt8, ndarray

VISIBLE_STEP = 8
MAX_PAIRS = 120
NOISE_LEVELS, BRIGHTNESS_LEVELS = 12, 40
"""What yardsticks change an image by: normal noise of this deviation; all values alike."""
COARSE_PERIODS = 28
"""Detail is coarse with no more periods than this along the shorter side."""
FINEST_COARSE_PX = 2.0
"""Of small images pixel noise is not coarse either."""
BLOCKS = 28
"""Blocks along a side, over whose means differences are seen from afar."""
_SMALLEST_SIDE = 4
_SSIM_WINDOW = 7


class Band(TypedDict):
    """Detail of half a period of ``side_px`` up to twice as much: its share of the difference."""

    side_px: int
    share: float


class Halving(TypedDict):
    """The root mean squared difference of a value in 0..255 after so many halvings."""

    halvings: int
    rms: float


class Yardstick(TypedDict):
    """What a known change of an image gives; as of :class:`Visibility`."""

    coarse_rms: float | None
    visible_share: float | None
    ssim_mean: float | None


class Visibility(TypedDict):
    """Differences between vertices as people may see them; None and empty of a single one.

    Files of the first version have shares by the side of blocks, ``octaves``, in place of what is
    said of coarse detail and of bands.

    Attributes:
        num_pairs: How many were measured.
        coarse_px: Coarse is the mean colour, and detail of half a period of so many pixels or more.
        coarse_rms: Root mean squared difference of a value in 0..255, in coarse detail alone.
        coarse_share: Its share of the squared difference.
        visible_share: The share of pixels where some channel differs by more than 8 of 255.
        ssim_mean: Structural similarity of pairs, 1 for equal images.
        ssim_min: Of the pair least alike.
        block_share: The share of the squared difference that means over blocks keep; see
            :func:`block_share`.
        bands: The share of the squared difference, by the size of the detail.
        mean_colour_share: That of the mean colour, with which ``bands`` add up to 1.
        halved: What is left after halving, from no halving on.
        yardsticks: What known changes give, by their names.
    """

    num_pairs: int
    coarse_px: NotRequired[float]
    coarse_rms: NotRequired[float | None]
    coarse_share: NotRequired[float | None]
    visible_share: float | None
    ssim_mean: float | None
    ssim_min: float | None
    block_share: NotRequired[float | None]
    bands: NotRequired[list[Band]]
    mean_colour_share: NotRequired[float | None]
    halved: list[Halving]
    yardsticks: NotRequired[dict[str, Yardstick]]
    octaves: NotRequired[list[Band]]


def measure_visibility(vertices: UInt8[ndarray, "vertices height width channels"]) -> Visibility:
    """Measures the differences between vertices as people may see them.

    Args:
        vertices: RGB in 0..255. Of more than 120 pairs, 120 spread over all are measured.

    Returns:
        All but the yardsticks, for which see :func:`measure_yardsticks`.
    """
    pairs = list(itertools.combinations(range(len(vertices)), 2))
    pairs = pairs[:: -(-len(pairs) // MAX_PAIRS)] if pairs else []
    coarse_px = coarse_side(vertices.shape[1:3])
    if not pairs:
        return {
            "num_pairs": 0,
            "coarse_px": coarse_px,
            "coarse_rms": None,
            "coarse_share": None,
            "mean_colour_share": None,
            "visible_share": None,
            "ssim_mean": None,
            "ssim_min": None,
            "block_share": None,
            "bands": [],
            "halved": [],
        }
    similar = [similarity(vertices[a], vertices[b]) for a, b in pairs]
    values = vertices.astype(np.float64)
    differences = np.stack([values[a] - values[b] for a, b in pairs])
    spectra = np.sum([spectrum(difference) for difference in differences], axis=0)
    energies, total = band_energies(spectra), float(spectra.sum())
    coarse = float(spectra[_half_periods(spectra.shape) >= coarse_px].sum())
    shares = (energies / total if total else energies).tolist()
    return {
        "num_pairs": len(pairs),
        "coarse_px": coarse_px,
        "coarse_rms": float(np.sqrt(coarse / differences.size)),
        "coarse_share": coarse / total if total else 0.0,
        "bands": [
            {"side_px": 2**octave, "share": share} for octave, share in enumerate(shares[:-1])
        ],
        "mean_colour_share": shares[-1],
        "visible_share": float((np.abs(differences).max(axis=-1) > VISIBLE_STEP).mean()),
        "ssim_mean": float(np.mean(similar)),
        "ssim_min": float(np.min(similar)),
        "block_share": block_share(differences),
        "halved": [
            {"halvings": number, "rms": float(np.sqrt(np.mean(level**2)))}
            for number, level in enumerate(_halvings(differences))
        ],
    }


def measure_yardsticks(
    image: UInt8[ndarray, "height width channels"],
) -> dict[str, Yardstick]:
    """Measures differences that everybody knows, to hold those between vertices against.

    Args:
        image: RGB in 0..255, such as a vertex.

    Returns:
        For ``noise`` (normal, of :data:`NOISE_LEVELS`, the same every time) and ``brightness`` (all
        values :data:`BRIGHTNESS_LEVELS` nearer to the other end): figures of the image and what it
        becomes.
    """
    away = BRIGHTNESS_LEVELS if image.mean() < 255 / 2 else -BRIGHTNESS_LEVELS
    noise = np.random.default_rng(0).normal(0, NOISE_LEVELS, image.shape)
    found: dict[str, Yardstick] = {}
    for name, change in (("noise", noise), ("brightness", np.float64(away))):
        changed = (image + change).round().clip(0, 255).astype(np.uint8)
        measured = measure_visibility(np.stack([image, changed]))
        found[name] = {
            "coarse_rms": measured["coarse_rms"],
            "visible_share": measured["visible_share"],
            "ssim_mean": measured["ssim_mean"],
        }
    return found


def coarse_side(shape: tuple[int, ...]) -> float:
    """Returns how wide, in pixels, half a period of coarse detail is at least.

    An image looked at as a whole fills some ten degrees of the field of view, in which contrast is
    seen best at a few periods a degree: :data:`COARSE_PERIODS` periods, 4 pixels of 224.

    Args:
        shape: Height and width.
    """
    return max(FINEST_COARSE_PX, min(shape[:2]) / (2 * COARSE_PERIODS))


def spectrum(image: Float64[ndarray, "height width channels"]) -> Float64[ndarray, "height width"]:
    """Returns an image's sum of squares over its channels, by the frequency."""
    from scipy.fft import dctn

    return np.asarray(np.square(dctn(image, axes=(0, 1), norm="ortho")).sum(axis=-1))


def band_energies(squares: Float64[ndarray, "height width"]) -> Float64[ndarray, "bands"]:
    """Splits a sum of squares by the size of the detail, into parts that add up to it.

    Part ``k`` is of the frequencies, in any direction, of which half a period is from ``2^k`` to
    less than ``2^(k+1)`` pixels, with the diagonal ones below 1 pixel in part 0; the last part is
    that of the mean colour. Frequencies are those of the cosine transform: it is orthogonal, so by
    Parseval squares add up, and goes on beyond a border as in a mirror, where Fourier's would see
    an edge between opposite borders. Unlike means over blocks, frequencies have no grid: moving an
    image changes its parts by what comes in and goes out at the borders, which is less than 0.02
    of the sum for coefficients on a grid of 4 pixels, in 224 pixels that are moved by up to 3.
    """
    count = int(np.log2(max(squares.shape))) + 1
    # The mean colour's half period is infinite: it comes last.
    octaves = np.log2(_half_periods(squares.shape)).clip(0, count)
    bands: Int64[ndarray, values] = np.floor(octaves).astype(np.int64).ravel()
    return np.bincount(bands, weights=squares.ravel(), minlength=count + 1)


def _half_periods(shape: tuple[int, ...]) -> Float64[ndarray, "height width"]:
    """Returns half a period of each frequency, in pixels; infinite for the mean colour."""
    rows, columns = (np.arange(length) / length for length in shape)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.hypot(rows[:, None], columns[None]))


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


def block_share(differences: Float64[ndarray, "images height width channels"]) -> float:
    """Returns the share of squared differences that means over square blocks keep.

    The mean over all places of the blocks' grid: where it lies decides nothing.

    Args:
        differences: Of images; blocks are a :data:`BLOCKS`-th of a side, 8 pixels of 224, but at
            least 2: of small images pixel noise is not coarse either.

    Returns:
        From 0 of noise alone to 1 of one colour; 0 where nothing differs.
    """
    shorter = min(differences.shape[1:3])
    side = min(shorter, max(2, shorter // BLOCKS))
    total = np.square(differences).mean()
    sums = np.pad(differences, ((0, 0), (1, 0), (1, 0), (0, 0))).cumsum(axis=1).cumsum(axis=2)
    boxes = sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side]
    means = (boxes + sums[:, :-side, :-side]) / side**2
    return float(np.square(means).mean() / total) if total else 0.0


def similarity(
    first: UInt8[ndarray, "height width channels"], second: UInt8[ndarray, "height width channels"]
) -> float:
    """Returns the structural similarity of two images, 1 for equal ones."""
    from skimage.metrics import structural_similarity

    measure: Any = structural_similarity
    side = min(first.shape[:2])
    window = min(_SSIM_WINDOW, side - 1 + side % 2)
    if window < 3:
        return float(np.array_equal(first, second))
    return float(measure(first, second, data_range=255, channel_axis=-1, win_size=window))
