"""Pictures that a page sends: in a private folder, under names of our own, no more than a few."""

import itertools
import secrets
import shutil
import tempfile
import threading
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import ImageError
from patchcollide.explorer.requests import RequestError
from patchcollide.images.pictures import read_square
from patchcollide.io.files import disk_full_explained
from patchcollide.shapes import UInt8, ndarray

MAX_UPLOADS = 16


class Uploads:
    """Pictures in a folder that only this user can read, and that goes away with them.

    When there are :data:`MAX_UPLOADS`, a new one takes the place of the oldest.

    Args:
        config: Section ``images`` says how they are fitted and how large they may be.
        size: Side of the network's input, in pixels.
        channels: Of the network's input.
    """

    def __init__(self, config: Config, size: int, channels: int) -> None:
        self._config, self._size, self._channels = config, size, channels
        self._folder = tempfile.TemporaryDirectory(
            prefix="patchcollide-explore-", ignore_cleanup_errors=True
        )
        self._kept: dict[str, Path] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def fit(self, data: bytes) -> UInt8[ndarray, "side side channels"]:
        """Decodes a picture as a source is decoded, and forgets it.

        Raises:
            RequestError: If it is none, is damaged, or has too many pixels.
            DiskFullError: If the disk is full.
        """
        path = self._write(data)
        try:
            return self._read(path)
        finally:
            path.unlink()

    def keep(self, data: bytes) -> tuple[str, UInt8[ndarray, "side side channels"]]:
        """Keeps a picture; returns the name to ask for it by, and the picture as the network's.

        Raises:
            RequestError: As :meth:`fit`.
            DiskFullError: As :meth:`fit`.
        """
        path = self._write(data)
        try:
            image = self._read(path)
        except RequestError:
            path.unlink()
            raise
        name = secrets.token_urlsafe(9)
        with self._lock:
            self._kept[name] = path
            if len(self._kept) > MAX_UPLOADS:
                self._kept.pop(next(iter(self._kept))).unlink()
        return name, image

    def copy(self, name: str, to: Path) -> None:
        """Copies a picture that is kept to ``to``; RequestError if there is none of that name."""
        with self._lock:
            if name not in self._kept:
                raise RequestError(
                    404, "There is no such upload, or no longer. Upload the picture again."
                )
            with disk_full_explained(to):
                shutil.copyfile(self._kept[name], to)

    def new_folder(self) -> Path:
        """Returns a new, empty folder that goes away with the uploads."""
        return Path(tempfile.mkdtemp(dir=self._folder.name))

    def close(self) -> None:
        """Removes all."""
        self._folder.cleanup()

    def _write(self, data: bytes) -> Path:
        path = Path(self._folder.name) / f"upload-{next(self._numbers)}"
        with disk_full_explained(path):
            path.write_bytes(data)
        return path

    def _read(self, path: Path) -> UInt8[ndarray, "side side channels"]:
        try:
            return read_square(self._config, path, self._size, self._channels)
        except ImageError as error:
            # Where it is here means nothing to who sent it.
            reason = str(error).removeprefix(f"{path}: ")
            raise RequestError(400, f"The picture cannot be used: {reason}") from error
