"""What a reproduction is given, and how a row's commands are filled with it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from patchcollide.config_files import builtin_config
from patchcollide.errors import DataError, ImageError, NetworkError
from patchcollide.images.photographs import write_photographs
from patchcollide.reproduction.rows import Row
from patchcollide.reproduction.stand_in import write_subset

NO_IMAGENET = "no ImageNet: give --imagenet FOLDER, with a folder for each class"
_NO_MNIST = "no MNIST: give --mnist FOLDER, with its four files"
_NO_WEIGHTS = (
    "no weights of VGG-16: give --weights FILE, or --download to fetch torchvision's (528 MB)"
)


@dataclass(frozen=True)
class Inputs:
    """Where things are.

    Attributes:
        out: The folder of the reproduction.
        imagenet: ImageNet's training images, as ``n03028079/n03028079_3255.JPEG``.
        mnist: MNIST's four files.
        weights: A file with VGG-16's.
        store: A store of a tenth of ImageNet that is there already.
        download: Whether torchvision's weights may be fetched.
    """

    out: Path
    imagenet: Path | None = None
    weights: Path | None = None
    store: Path | None = None
    download: bool = False
    mnist: Path | None = None

    def require(self) -> None:
        """Refuses what was given but is not there.

        Raises:
            ImageError: If the folder of ImageNet is missing.
            NetworkError: If the file of weights is.
            DataError: If MNIST is.
        """
        if self.mnist is not None and not self.mnist.is_dir():
            raise DataError(
                f"--mnist {self.mnist} is not a folder. Give the one that holds MNIST's four "
                "files, or leave the option out to skip the rows that need it."
            )
        if self.imagenet is not None and not self.imagenet.is_dir():
            raise ImageError(
                f"--imagenet {self.imagenet} is not a folder. Give the one that holds n01440764 "
                "and the other classes, or leave the option out to skip the rows that need it."
            )
        if self.weights is not None and not self.weights.is_file():
            raise NetworkError(
                f"--weights {self.weights} is not a file. Give VGG-16's weights (.pth or "
                ".safetensors), or leave the option out for torchvision's."
            )

    @property
    def photographs(self) -> Path:
        """Where the libraries' photographs go."""
        return self.out / "photographs"

    def needs_photographs(self, row: Row) -> bool:
        """Whether a row is made from the libraries' photographs."""
        return any("{photographs}" in command for command in row.variant.commands)

    def prepare(self, row: Row) -> None:
        """Writes the pictures that a row is made from, where they are not there yet.

        Raises:
            InputError: If they cannot be read.
            DiskFullError: If the disk is full.
        """
        if self.needs_photographs(row):
            write_photographs(self.photographs)
        if row.variant.subset and self.imagenet is not None:
            write_subset(self.imagenet, self._subset(row), row.variant.subset)

    def _subset(self, row: Row) -> Path:
        return self.out / f"photographs-{row.variant.subset}"

    def store_of(self, row: Row) -> Path:
        """Returns the store that a row's patches come from."""
        if row.variant.subset:
            return self.out / f"store-{row.variant.subset}"
        if row.quick:
            return self.out / "store-quick"
        return self.store or self.out / "store"

    def lacking(self, row: Row) -> str:
        """Says why a row cannot be made; nothing if it can."""
        if "imagenet" in row.variant.needs:
            if self.imagenet is None:
                return NO_IMAGENET
            for name, pattern in row.variant.images.items():
                if self._image(pattern) is None:
                    return f"no {name}: {self.imagenet / pattern} is not there"
        if "mnist" in row.variant.needs and self.mnist is None:
            return _NO_MNIST
        if "vgg16-weights" in row.variant.needs and self._weights() is None:
            return _NO_WEIGHTS
        return ""

    def commands(self, row: Row) -> list[list[str]]:
        """Returns the words after ``patchcollide``, with stand-ins for what is lacking."""
        values = {
            "configs": builtin_config("section4").parent,
            "imagenet": self.imagenet or "IMAGENET",
            "mnist": self.mnist or "MNIST",
            "shared": self.out,
            "out": self.out / row.key,
            "photographs": self.photographs,
            "store": self.store_of(row),
            "subset": self._subset(row),
            "weights": self._weights() or "WEIGHTS" if "vgg16-weights" in row.variant.needs else "",
        }
        for name, pattern in row.variant.images.items():
            values[name] = self._image(pattern) or f"IMAGENET/{pattern}"
        # Words are split first: a path may hold spaces.
        return [
            [word.format_map(values) for word in shlex.split(command)]
            for command in row.variant.commands
        ]

    def _image(self, pattern: str) -> Path | None:
        if self.imagenet is None:
            return None
        return min(self.imagenet.glob(pattern), default=None)

    def _weights(self) -> str | None:
        if self.weights is not None:
            return str(self.weights)
        # Takes seconds to import, which only rows of this network should wait for.
        from patchcollide.networks.models.vgg16 import pretrained_path

        return "pretrained" if self.download or pretrained_path().is_file() else None


def command_line(words: list[str]) -> str:
    """Returns what a person types."""
    return shlex.join(["patchcollide", *words])
