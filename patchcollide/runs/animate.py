"""Animations of a tour through a polytope, each frame an image that was rounded to 8 bits."""

from pathlib import Path

import numpy as np
import torch

from patchcollide.errors import RunError
from patchcollide.evaluation.simplex import hull_images, leg_labels, tour
from patchcollide.images.animations import ANIMATIONS, captioned, write_animation
from patchcollide.images.tensors import as_batch
from patchcollide.io.files import output_path
from patchcollide.networks.network import CollisionNetwork
from patchcollide.progress import track
from patchcollide.runs.folder import Run
from patchcollide.runs.networks import network_of
from patchcollide.runs.vertices import load_vertex_pngs
from patchcollide.shapes import UInt8, ndarray

__all__ = ["tour_frames", "write_tour"]

SHOWN_PX = 224
"""Smaller images are shown so many times as large, in whole numbers, as comes nearest to this."""
_BATCH_SIZE = 8


def write_tour(
    run: Run,
    path: Path,
    *,
    samples_per_leg: int = 12,
    frames_per_second: float = 12.0,
    with_captions: bool = True,
) -> Path:
    """Animates the tour between a run's vertices, from its PNG files.

    See :mod:`patchcollide.evaluation.simplex`.

    Args:
        run: A finished run.
        path: The file to write; ``.webp`` keeps every value, ``.gif`` 256 colours a frame.
        samples_per_leg: Frames from a stop to the next.
        frames_per_second: How fast it is shown.
        with_captions: Whether to write beneath each frame where it is, and what class the network
            gives it with what probability. Without, no network is needed.

    Returns:
        Where it was written.

    Raises:
        RunError: If the suffix is another, a file is missing, or the network cannot be had again.
        DiskFullError: If the disk is full.
    """
    if path.suffix.lower() not in ANIMATIONS:
        raise RunError(f"--out {path} should end in {' or '.join(ANIMATIONS)}.")
    path = output_path(path)
    network = network_of(run) if with_captions else None
    frames = tour_frames(load_vertex_pngs(run), samples_per_leg, network)
    write_animation(path, frames, 1 / frames_per_second)
    return path


def tour_frames(
    vertices: UInt8[ndarray, "vertices height width channels"],
    samples_per_leg: int,
    network: CollisionNetwork | None = None,
) -> list[UInt8[ndarray, "tall wide 3"]]:
    """Returns the frames of a tour, RGB.

    Args:
        vertices: 8-bit images.
        samples_per_leg: Frames from a stop to the next.
        network: Says the class beneath each; None for no captions.
    """
    weights = torch.from_numpy(tour(len(vertices), samples_per_leg))
    images = hull_images(weights, vertices)
    shown = [enlarged(image) for image in images]
    if network is None:
        return shown
    labels = leg_labels(len(vertices)) or ["vertex 0"]
    # The first frame belongs to the first leg too.
    legs = [labels[max(0, number - 1) // samples_per_leg] for number in range(len(images))]
    classes = _classes(network, images)
    return [captioned(*parts) for parts in zip(shown, zip(legs, classes, strict=True), strict=True)]


def enlarged(image: UInt8[ndarray, "height width channels"]) -> UInt8[ndarray, "tall wide 3"]:
    """Returns an image in RGB, each pixel a square of them if it is small."""
    times = max(1, round(SHOWN_PX / image.shape[1]))
    rgb = image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
    return rgb.repeat(times, axis=0).repeat(times, axis=1)


def _classes(
    network: CollisionNetwork, images: UInt8[ndarray, "images height width channels"]
) -> list[str]:
    """Returns what the network takes each image for, and how surely."""
    found = []
    firsts = range(0, len(images), _BATCH_SIZE)
    for first in track(firsts, "Classifying the frames", len(firsts)):
        with torch.no_grad():
            batch = as_batch(images[first : first + _BATCH_SIZE])
            chances, indices = network.probabilities(batch).max(dim=1)
        for chance, index in zip(chances.tolist(), indices.tolist(), strict=True):
            found.append(f"{network.class_name(index).split(',')[0]} {chance:.3f}")
    return found
