"""Seeded pictures, and files made of them."""

import struct
import zlib

import numpy as np
from PIL import Image

from patchcollide.images.pictures import read_image

MANY = 10_000_000


def picture(seed, side=32, channels=3):
    """Squares of four by four pixels of random colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side // 4, side // 4, channels), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)


def noise(height, width, channels=3, seed=0):
    generator = np.random.default_rng(seed)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return generator.integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width):
    """A picture with a different slope along each side, which no turn maps onto itself."""
    rows, cols = np.mgrid[:height, :width]
    planes = [255 * rows / height, 255 * cols / width, 127 * (rows / height + cols / width)]
    return np.stack(planes, axis=2).astype(np.uint8)


def save(path, image, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)
    return path


def read(path, size=16, fit="crop", max_pixels=MANY):
    return read_image(path, size=size, fit=fit, max_pixels=max_pixels)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
