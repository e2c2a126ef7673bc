"""Which picture is meant: a file, a part of one, or an image of a store."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import ConfigError, ImageError
from patchcollide.images.pictures import read_pixels, read_square
from patchcollide.images.pillow import Picture
from patchcollide.networks.feature_files import holds_features, read_target
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store.reader import PatchStore

logger = logging.getLogger(__name__)

OF_STORE = "imagenet:"
"""What the name of an image of a store begins with, in place of the path of a file."""

_CROP = re.compile(r"(\d{1,9}),(\d{1,9}),(\d{1,9})", re.ASCII)

_MOST = 0.5

# Digits of 8 pixels, which come with scikit-learn, are enlarged three and a half times.
_MUCH_LARGER = 8

# Of 255: what a grey photograph may have from being compressed.
_COLOURED = 8.0


@dataclass(frozen=True)
class Crop:
    """A square part of a picture.

    Attributes:
        left: Its first column, in pixels of the picture as it is shown.
        top: Its first row.
        side: How wide and high it is, at least 1.
    """

    left: int
    top: int
    side: int

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Returns the crop that a text ``x,y,side`` means.

        Raises:
            ConfigError: If it means none.
        """
        found = _CROP.fullmatch(text.replace(" ", ""))
        if not found or not int(found[3]):
            raise ConfigError(
                f"Expected a crop as x,y,side in pixels, such as 40,0,300, but found {text!r}. "
                "Correct --crop or --target-crop."
            )
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.side}"

    def cut(self, what: str, pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "side side 3"]:
        """Returns this part of a picture.

        Args:
            what: What the picture is called in errors.
            pixels: The picture.

        Raises:
            ImageError: If the part lies outside.
        """
        height, width = pixels.shape[:2]
        if self.left + self.side > width or self.top + self.side > height:
            raise ImageError(
                f"The crop {self} (x,y,side) reaches column {self.left + self.side} and row "
                f"{self.top + self.side}, but {what} has {width} x {height} pixels. Choose a part "
                "within."
            )
        return pixels[self.top : self.top + self.side, self.left : self.left + self.side]


@dataclass(frozen=True)
class Crops:
    """The parts of source and target that are meant; None for what ``images.fit`` leaves."""

    source: Crop | None = None
    target: Crop | None = None


WHOLE = Crops()
"""All of both."""


@dataclass(frozen=True, eq=False)
class ChosenPicture:
    """A picture, and what it is called.

    Attributes:
        path: Its file, or :data:`OF_STORE` and its name in a store.
        picture: The file again, or pixels: of the part that is meant, or out of the store.
    """

    path: Path
    picture: Picture


def choose_picture(
    config: Config, path: Path, store: PatchStore | None, crop: Crop | None = None
) -> ChosenPicture:
    """Finds the picture that is meant.

    Args:
        config: Section ``images``.
        path: A file, or :data:`OF_STORE` and a name in the store, whose suffix may be left out.
        store: The store; None if there is none.
        crop: The part that is meant; None for all of it.

    Raises:
        ImageError: If there is no such image in the store, if it could not be read, if there is no
            store, or if the part lies outside; if a file of which a part is meant cannot be read.
    """
    pixels: np.ndarray | None = None
    if str(path).startswith(OF_STORE):
        path, pixels = _of_store(str(path).removeprefix(OF_STORE), store)
    if crop is None:
        return ChosenPicture(path, path if pixels is None else pixels)
    if pixels is None:
        pixels = read_pixels(path, max_pixels=config.images.max_pixels)
    return ChosenPicture(path, crop.cut(str(path), pixels))


def choose_target(
    config: Config, path: Path, store: PatchStore | None, crop: Crop | None = None
) -> ChosenPicture:
    """Does what :func:`choose_picture` does, of a target, which may be features.

    Raises:
        ImageError: As there, and if a part of features is asked for.
    """
    if holds_features(path) and not str(path).startswith(OF_STORE):
        if crop is not None:
            raise ImageError(
                f"{path} holds features, which have no parts. Leave out --target-crop."
            )
        return ChosenPicture(path, path)
    return choose_picture(config, path, store, crop)


def target_of(config: Config, network: CollisionNetwork, chosen: ChosenPicture) -> Target:
    """Returns the target that was chosen; errors as of ``read_target``."""
    if isinstance(chosen.picture, Path):
        return read_target(config, network, chosen.picture)
    picture = read_square(config, chosen.picture, network.input_size, network.channels)
    return Target.of_picture(network, picture)


def _of_store(name: str, store: PatchStore | None) -> tuple[Path, UInt8[ndarray, "side side 3"]]:
    if store is None:
        raise ImageError(
            f"{OF_STORE}{name} is an image of a store, but none is given. Give it with --store, or "
            "give the path of a file."
        )
    numbers = [number for number, known in enumerate(store.names) if known == name] or [
        number
        for number, known in enumerate(store.names)
        if known.startswith(name) and str(PurePosixPath(known).with_suffix("")) == name
    ]
    # An extended store has what changed twice: the last is what it is now.
    if not numbers or len({store.names[number] for number in numbers}) > 1:
        raise ImageError(_unknown(name, store, [store.names[number] for number in numbers]))
    number = numbers[-1]
    if not store.valid[number]:
        raise ImageError(
            f"{OF_STORE}{name} could not be read when {store.path} was made. Choose another."
        )
    return Path(f"{OF_STORE}{store.names[number]}"), store.image(number)


def _unknown(name: str, store: PatchStore, several: Sequence[str]) -> str:
    if several:
        return (
            f"{OF_STORE}{name} may be {' or '.join(several[:3])} in {store.path}. Give its suffix "
            "too."
        )
    label = f"{name.split('/')[0]}/"
    # Of a class, not of millions.
    alike = [known for known in store.names if known.startswith(label)] or store.names[:1000]
    near = get_close_matches(name, alike, 3, 0.0)
    return (
        f"There is no image {name} among the {store.num_images} of {store.path}, but such as "
        f"{', '.join(near)}. Correct the name, as CLASS/NAME."
    )


def warn_of_whole(config: Config, chosen: ChosenPicture) -> None:
    """Does what :func:`warn_of_cut` does, of a file that was chosen as a whole."""
    if isinstance(chosen.picture, Path):
        pixels = read_pixels(chosen.picture, max_pixels=config.images.max_pixels)
        warn_of_cut(config, f"source {chosen.path}", pixels)


def warn_of_cut(config: Config, what: str, pixels: ndarray) -> None:
    """Warns of a picture of which the crop of the centre leaves less than half."""
    height, width = pixels.shape[:2]
    kept = min(height, width) / max(height, width)
    if config.images.fit == "crop" and kept < _MOST:
        logger.warning(
            "the crop of the centre keeps %.0f %% of the %s, which has %d x %d pixels. Choose what "
            "is kept with --crop x,y,side, or squeeze it in with --set images.fit=squash.",
            100 * kept,
            what,
            width,
            height,
        )


def warn_of_picture(
    network: CollisionNetwork, what: str, pixels: UInt8[ndarray, "height width 3"]
) -> None:
    """Warns of a picture that is much smaller than what the network sees, or has other colours."""
    side = min(pixels.shape[:2])
    if network.input_size >= _MUCH_LARGER * side:
        logger.warning(
            "the %s is enlarged %.1f times, from %d to %d pixels: most of what the network sees "
            "of it is made up between its pixels.",
            what,
            network.input_size / side,
            side,
            network.input_size,
        )
    colour = float(np.ptp(pixels, axis=-1).mean())
    if network.channels == 1 and colour > _COLOURED:
        logger.warning(
            "the %s is in colour (channels differ by %.0f levels of 255 on average), but %s "
            "sees grey images alone: it may not be what the network is for.",
            what,
            colour,
            network.full_name,
        )
