"""Whether a disk has room for a store, asked before hours are spent on it."""

import shutil
from pathlib import Path

from patchcollide.errors import StoreError

# Names, digests and thumbnails of an image, and one unfinished shard's structure.
_BYTES_BESIDE_PIXELS = 2048
_MARGIN_BYTES = 4 << 20


def require_room(out: Path, num_images: int, side: int) -> None:
    """Refuses to begin what the disk is too small for.

    Args:
        out: The store's folder, which need not be there yet.
        num_images: Images that are still to be stored.
        side: Their width in pixels.

    Raises:
        StoreError: If there is less room than they take.
    """
    if not num_images:
        return
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    needed = num_images * (side * side * 3 + _BYTES_BESIDE_PIXELS) + _MARGIN_BYTES
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StoreError(
            f"{out} needs {needed / 1e9:.2f} GB for the {num_images} images still to be stored, "
            f"but the disk of {place} has {free / 1e9:.2f} GB free. Free some, choose another "
            "--out, or take fewer images with --fraction."
        )
