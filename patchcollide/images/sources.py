"""Finds the pictures of whatever people have them in: folders, tar archives, Parquet files.

What a file is, is told by its content, never by its suffix alone.
"""

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from patchcollide.errors import ImageError
from patchcollide.images.archives import list_archives
from patchcollide.images.folders import list_folder, training_folder
from patchcollide.images.listings import Listing, PictureFile, SourceImage
from patchcollide.images.parquet import ParquetImage, list_tables, read_in_order
from patchcollide.images.pillow import readable_suffixes
from patchcollide.images.windows import kind_of_file, packed_as

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")

# What data sets call their parts, which nobody wants in one store.
_SPLITS = re.compile(r"(?:^|[^a-z])(train|training|val|valid|validation|test)(?:[^a-z]|$)")


def find_images(origin: Path, classes: str | None = None) -> Listing:
    """Finds pictures, of all kinds that can be read.

    Args:
        origin: One of these:

            * a folder of pictures, as ``class/file`` or flat, or of Kaggle's ImageNet at any level;
            * ``ILSVRC2012_img_train.tar``, a tar of tars, or a folder of the tars within;
            * WebDataset's shards, ``key.jpg`` beside ``key.cls`` or ``key.json``;
            * a tar of folders;
            * Parquet files of Hugging Face's, ``image.bytes`` and ``label``;

            of archives and Parquet files one, a folder of them, or a pattern, such as
            ``train-{0000..0146}.tar`` or ``data/train-*.parquet``.
        classes: Give these alone, separated by commas; None for all.

    Raises:
        ImageError: If there is nothing, nothing of these kinds, or several kinds; if any of it is
            damaged; or if it holds no pictures, or no such class.
        MissingLibraryError: If a Parquet file is given and PyArrow is not installed.
        StoreError: If a file can no longer be read.
    """
    found = _found(origin)
    return found if classes is None else found.of_classes(classes)


def _found(origin: Path) -> Listing:
    if origin.is_dir():
        listing = list_folder(origin)
        if listing.files:
            return listing
        root = training_folder(origin)
        paths = [path for name in listing.others if (path := root / name).is_file()]
        held = [path for path in paths if kind_of_file(path)]
        if packed := "" if held else next(filter(None, map(packed_as, paths)), ""):
            raise ImageError(packed)
        return _full(_of_files(origin, held) or listing)
    paths = [origin] if origin.exists() else _expanded(origin)
    for path in paths:
        if packed := packed_as(path):
            raise ImageError(packed)
        if not kind_of_file(path):
            what = (
                "a file of another kind" if not path.is_file() or path.stat().st_size else "empty"
            )
            raise ImageError(
                f"Expected a folder of images, tar archives or Parquet files of them, but {path} "
                f"is {what}. Check the path."
            )
    return _full(_of_files(origin, paths))


def in_reading_order(files: Sequence[SourceImage]) -> Iterator[tuple[int, PictureFile]]:
    """Yields pictures as they lie on the disk, each with its number in ``files``.

    What can only be read in a row is read, piece by piece.
    """
    ordered = sorted(enumerate(files), key=lambda each: each[1].place)
    tables = [(number, file) for number, file in ordered if isinstance(file, ParquetImage)]
    yield from ((number, file) for number, file in ordered if not isinstance(file, ParquetImage))
    yield from read_in_order(tables)


def _of_files(origin: Path, paths: Sequence[Path]) -> Listing | None:
    """Lists archives or Parquet files, all of one kind; None if there are none."""
    by_kind = {kind: [path for path in paths if kind_of_file(path) == kind] for kind in _LISTED}
    kinds = [kind for kind, found in by_kind.items() if found]
    if not kinds:
        return None
    if len(kinds) > 1:
        first, second = (by_kind[kind][0] for kind in kinds[:2])
        raise ImageError(
            f"{origin} holds files of several kinds, such as {first}, a tar archive, and {second}, "
            "a Parquet file. Give files of one kind, by a pattern such as train-*.tar."
        )
    (kind,) = kinds
    _require_one_split(origin, by_kind[kind])
    return _LISTED[kind](origin, by_kind[kind])


_LISTED = {"tar": list_archives, "parquet": list_tables}


def _require_one_split(origin: Path, paths: Sequence[Path]) -> None:
    by_split: dict[str, Path] = {}
    for path in paths:
        if split := _SPLITS.search(path.name.lower()):
            by_split.setdefault(split[1], path)
    if len(by_split) > 1:
        named = ", ".join(f"{split} ({path.name})" for split, path in sorted(by_split.items()))
        raise ImageError(
            f"{origin} holds several parts of a data set: {named}. Give one of them, by a pattern "
            "such as 'train-*'."
        )


def _full(listing: Listing | None) -> Listing:
    """Refuses a listing without pictures."""
    if listing is not None and listing.files:
        return listing
    others, num_links = (len(listing.others), listing.num_links) if listing else (0, 0)
    origin = listing.origin if listing else Path()
    where = f"{origin} or its folders" if origin.is_dir() else str(origin)
    raise ImageError(
        f"Expected images ({' '.join(sorted(readable_suffixes()))}) in {where}, but found "
        f"none, only {others} other files and {num_links} symbolic links, which are not "
        "followed. Check the path, or copy the images there."
    )


def _expanded(pattern: Path) -> list[Path]:
    """Returns the files that a pattern names."""
    text = str(pattern)
    if not re.search(r"[{*?\[]", text):
        raise ImageError(
            f"Expected a folder of images, but {pattern} does not exist. Check the path."
        )
    found = []
    for each in _without_braces(text):
        matches = sorted(glob.glob(each)) if re.search(r"[*?\[]", each) else [each]  # noqa: PTH207
        present = [Path(match) for match in matches if Path(match).is_file()]
        if not present:
            raise ImageError(
                f"Expected files by the pattern {pattern}, but there is none by {each}. Check the "
                "path and the numbers."
            )
        found += present
    return list(dict.fromkeys(found))


def _without_braces(text: str) -> Iterator[str]:
    """Yields what ``{0..9}`` and ``{a,b}`` in a text stand for.

    Raises:
        ImageError: If a range ends before it begins.
    """
    braces = _BRACES.search(text)
    if not braces:
        yield text
        return
    choices: Iterable[str] = braces[1].split(",")
    if numbers := _RANGE.fullmatch(braces[1]):
        first, last = map(int, numbers.groups())
        if last < first:
            raise ImageError(
                f"Expected a range from the smaller number to the larger, but {text} has "
                f"{braces[0]}. Write {{{numbers[2]}..{numbers[1]}}}."
            )
        # One by one: the first file that is missing ends a range that is longer than memory.
        choices = (str(number).zfill(len(numbers[1])) for number in range(first, last + 1))
    for choice in choices:
        yield from _without_braces(text[: braces.start()] + choice + text[braces.end() :])
