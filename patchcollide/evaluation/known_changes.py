"""What a layer makes of changes that everybody knows, to hold a polytope's tightness against.

Layers differ in how far features go when an image does not change to the eye, so a relative
distance says little without that of the target moved by a few pixels, cropped, compressed or
mirrored, and of another image of its class. Below them all is the *floor*: half a grey level of
noise, which is what rounding to 8 bits is. Nobody may ask for features nearer than that.
"""

from collections.abc import Sequence

import numpy as np
import torch

from patchcollide.evaluation.feature_distances import relative_feature_distances
from patchcollide.evaluation.gaps import finite
from patchcollide.images.pillow import as_jpeg
from patchcollide.images.tensors import as_batch, as_pictures, resized
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

ANOTHER, SOURCE, RANDOM = "another image of its class", "the source", "random images, median"

_MOVED_SIDE = 56
"""An image is moved by its side over this: 4 pixels of 224."""
_CROPPED = 0.1
_JPEG_QUALITY = 30
_NUM_DRAWS = 5
_BATCH_SIZE = 8


def known_changes(
    picture: UInt8[ndarray, "side side channels"],
) -> dict[str, UInt8[ndarray, "side side channels"]]:
    """Returns what becomes of a square picture by changes that everybody knows, by their names.

    Moved to the right, its border repeated; cropped in the middle and scaled up again; as a JPEG
    file; mirrored.
    """
    side = picture.shape[0]
    moved_px = max(1, round(side / _MOVED_SIDE))
    columns = (np.arange(side) - moved_px).clip(0)
    # Half of what is cropped goes from each border, and a pixel stays.
    margin = min(max(1, round(side * _CROPPED / 2)), (side - 1) // 2)
    inside = picture[margin : side - margin, margin : side - margin]
    return {
        f"target moved by {moved_px} px": picture[:, columns],
        f"target cropped by {_CROPPED:.0%}".replace("%", " %"): as_pictures(
            resized(as_batch(inside[None]), side)
        )[0],
        f"target as JPEG, quality {_JPEG_QUALITY}": as_jpeg(picture, _JPEG_QUALITY),
        "target mirrored": picture[:, ::-1],
    }


@proof_modes()
def noise_floor(network: CollisionNetwork, target: Target, seed: int) -> float | None:
    """Returns how far half a grey level of noise moves a target's features: tau, at most.

    Uniform noise up to half a grey level either way, as rounding is; the largest of a few draws.

    Args:
        network: The network under study.
        target: The target.
        seed: Decides the noise.

    Returns:
        None for a target that is no picture, or says nothing.
    """
    if target.picture is None:
        return None
    picture, generator = as_batch(target.picture[None]), seeded(seed, Purpose.FLOOR)
    noise = torch.rand((_NUM_DRAWS, *picture.shape[1:]), generator=generator) - 0.5
    return finite(max(_distances(network, target, (picture + noise / 255).clamp(0, 1))))


@proof_modes()
def measure_known_changes(network: CollisionNetwork, target: Target) -> dict[str, float | None]:
    """Returns tau of a target's known changes, by their names; None where it is infinite.

    A target that is no picture has none.
    """
    if target.picture is None:
        return {}
    changes = known_changes(target.picture)
    found = _distances(network, target, as_batch(np.stack(list(changes.values()))))
    return {name: finite(tau) for name, tau in zip(changes, found, strict=True)}


@proof_modes()
def median_distance(
    network: CollisionNetwork,
    target: Target,
    images: Sequence[UInt8[ndarray, "side side channels"]],
) -> float | None:
    """Returns the median tau of images; None without any, or if it is infinite."""
    if not images:
        return None
    return finite(float(np.median(_distances(network, target, as_batch(np.stack(images))))))


def _distances(
    network: CollisionNetwork, target: Target, images: Float[Tensor, "n channels side side"]
) -> list[float]:
    features = target.features(network)
    found: list[float] = []
    with torch.no_grad():
        for part in torch.split(images, _BATCH_SIZE):
            z = network(part).pre_activation
            found += relative_feature_distances(z, features).tolist()
    return found
