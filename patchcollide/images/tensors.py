"""Images with one channel or three: what networks see may be grey, what stores hold is RGB."""

import numpy as np
import torch
from torch import nn

from patchcollide.errors import ImageError
from patchcollide.shapes import Float, Float64, Tensor, UInt8, ndarray

# ITU-R 601-2 in 16 bits, as Pillow and most others compute it; they add up to one.
_BATCH_AXES = 4

_LUMA = np.array([19595, 38470, 7471], np.uint32)


def to_channels(
    images: UInt8[ndarray, "*batch height width found"], channels: int
) -> UInt8[ndarray, "*batch height width channels"]:
    """Returns images with the channels wanted, 1 or 3.

    Grey is ITU-R 601-2 luma, rounded; of equal red, green and blue exactly these. RGB of a grey
    image is it three times.

    Raises:
        ValueError: If an image has, or is to have, other than 1 or 3 channels.
    """
    found = images.shape[-1]
    if {found, channels} - {1, 3}:
        raise ValueError(f"Expected 1 or 3 channels, but found {found}, and {channels} are wanted.")
    if found == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return ((images @ _LUMA + (1 << 15)) >> 16).astype(np.uint8)[..., None]


def resized(
    images: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "batch channels size size"]:
    """Scales square images, bilinearly with antialiasing; as they are when they fit."""
    if images.shape[-2:] == (size, size):
        return images
    return nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )


def as_batch(
    images: UInt8[ndarray, "batch height width channels"]
    | Float[ndarray, "batch height width channels"],
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch channels height width"]:
    """Returns images of 0..255 as the network takes them: RGB in ``[0, 1]``, channels first."""
    # Copied, because arrays read from a file may be read-only.
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(dtype) / 255


def unit_batch(
    images: object, channels: int
) -> Float[Tensor, "batch channels height width"] | None:
    """Returns values that are no picture as the network takes them; None of a picture.

    Args:
        images: A tensor, channels first, or a floating-point array, channels last, both in
            ``[0, 1]``, of one image or several; or an uint8 array of several, channels last.
        channels: That the network takes.

    Raises:
        ImageError: If they are of another shape or type, or leave ``[0, 1]``.
    """
    if isinstance(images, np.ndarray):
        if images.dtype == np.uint8 and images.ndim != _BATCH_AXES:
            return None
        values = torch.from_numpy(images.copy())
        values = values.movedim(-1, -3) if values.ndim > 2 else values
        values = values / 255 if images.dtype == np.uint8 else values
    elif isinstance(images, Tensor):
        values = images.detach().cpu()
    else:
        return None
    batch = values[None] if values.ndim == _BATCH_AXES - 1 else values
    in_range = values.is_floating_point() and bool(((values >= 0) & (values <= 1)).all())
    if batch.ndim != _BATCH_AXES or batch.shape[1] != channels or not in_range:
        raise ImageError(
            f"Values of images should be floating-point in [0, 1], of shape ([batch,] {channels}, "
            f"height, width) in a tensor, ([batch,] height, width, {channels}) in an array, but "
            f"are {images.dtype} of shape {tuple(images.shape)}"
            f"{'' if in_range else ', or leave [0, 1]'}. Give such, or a picture."
        )
    return batch.float()


def as_pictures(
    batch: Float[Tensor, "batch channels height width"],
) -> UInt8[ndarray, "batch height width channels"]:
    """Returns what the network takes as images of 0..255, rounded and cut off at the ends."""
    levels = (255 * batch).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().contiguous().numpy()


def mean_distance(images: Float[Tensor, "n channels height width"]) -> float:
    """Returns the mean of :func:`pairwise_distances`; 0 for one image."""
    distances = pairwise_distances(images)
    return float(distances.mean()) if len(distances) else 0.0


def pairwise_distances(images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "pairs"]:
    """L2 distance of each pair of images, in the 0..255 scale of the paper; empty for one image.

    A constant far below one grey level keeps the gradient finite where two images are equal.
    """
    first, second = torch.triu_indices(len(images), len(images), offset=1, device=images.device)
    # Not images[first]: threads add up its gradient in any order, so that no run is like another.
    pairs = images.index_select(0, first) - images.index_select(0, second)
    difference = 255 * pairs.flatten(start_dim=1)
    return (difference.square().sum(dim=1) + 1e-12).sqrt()


def flat(picture: UInt8[ndarray, "height width channels"]) -> Float64[ndarray, "values"]:
    """Returns a picture as layers take it: in ``[0, 1]``, in channel, height, width order."""
    return np.asarray(picture.transpose(2, 0, 1).reshape(-1) / 255)
