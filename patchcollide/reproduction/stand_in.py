"""Rows of Section 4 on a folder of photographs and a network that stand in for the paper's.

The paper's data are a tenth of ImageNet, and its weights of VGG-16 are not everywhere. What is here
makes the same of any folder with a folder a class: the church with itself and with the cleaver, if
the folder has them, more pairs that a seed draws, and the second pair again from smaller stores.
"""

import glob
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchcollide.config_files import load_config
from patchcollide.errors import ImageError
from patchcollide.images.listings import SourceImage
from patchcollide.images.sources import find_images
from patchcollide.io.files import written_beside
from patchcollide.randomness import keyed_generator
from patchcollide.reproduction.rows import Metric, Row, Variant

CHURCH, CLEAVER = "n03028079", "n03041632"
"""The classes of the paper's Table 5."""
PAPER_IMAGES = 128_066
NUM_PAIRS = 12
SIZES = (60, 200)
"""Of so many photographs a store is made too."""
WHOLE = "photographs_02"
"""Of the pair that is also made from smaller stores: the row with all photographs."""

_SEED = 0
_PAPER = {
    "Table 6, row 1": {"p target": 0.952, "share of p": 0.921, "distance": 0.229},
    "Table 6, row 2": {"p target": 0.999, "share of p": 0.801, "distance": 0.255},
}
_LARGEST_TAU = 0.4
_MINUTES = {"vgg16": 40.0}
_FEW_MINUTES = 8.0


@dataclass(frozen=True)
class StandIn:
    """What takes the place of the paper's data and network.

    Attributes:
        folder: Photographs, as ``class/file``.
        network: Its name; empty for what the settings say.
        layer: Of its activation; empty for the network's own choice.
        weights: Their file; None for the network's own.
        num_pairs: How many pairs are made.
        settings: What differs from the defaults, as ``SECTION.KEY=VALUE``.
    """

    folder: Path
    network: str = ""
    layer: str = ""
    weights: Path | None = None
    num_pairs: int = NUM_PAIRS
    settings: Sequence[str] = ()

    @property
    def network_name(self) -> str:
        """The network's name."""
        return self.network or load_config(overrides=self.settings).network.name


@dataclass(frozen=True)
class _Pair:
    """A source and a target: the first photograph of a class each."""

    source: SourceImage
    target: SourceImage

    @property
    def title(self) -> str:
        """Says which two."""
        if self.source == self.target:
            return f"{_called(self.source)} with itself"
        return f"{_called(self.source)} with {_called(self.target)}"

    @property
    def origin(self) -> str:
        """The paper's row that is repeated; empty if there is none."""
        classes = {(CHURCH, CHURCH): "Table 6, row 1", (CHURCH, CLEAVER): "Table 6, row 2"}
        return classes.get((self.source.label, self.target.label), "")


def stand_in_rows(given: StandIn) -> list[Row]:
    """Returns a row for each pair, and one for each store that is smaller than the folder.

    Args:
        given: What stands in.

    Raises:
        ImageError: If the folder holds no photographs as files, or too few classes for the pairs.
        ConfigError: If a setting is refused.
    """
    load_config(overrides=given.settings)
    files = _photographs(given.folder)
    pairs = choose_pairs(files, given.folder, given.num_pairs)
    rows = [_row(given, pair, number, len(files)) for number, pair in enumerate(pairs, start=1)]
    if len(pairs) > 1:
        rows += [_row(given, pairs[1], 2, size, size) for size in SIZES if size < len(files)]
    return rows


def choose_pairs(files: Sequence[SourceImage], folder: Path, count: int) -> list[_Pair]:
    """Chooses the paper's two pairs and others, by seed; no photograph is in two of the others.

    Of each class the first photograph by name; none is left out for what a network makes of it.
    Where the church or the cleaver is missing, another class takes its place.

    Raises:
        ImageError: If there are not enough classes.
    """
    firsts: dict[str, SourceImage] = {}
    for file in files:
        firsts.setdefault(file.label, file)
    known = [label for label in (CHURCH, CLEAVER) if label in firsts]
    others = sorted(firsts.keys() - set(known))
    drawn = keyed_generator(_SEED, "pairs of photographs").permutation(len(others))
    ordered = [firsts[label] for label in known + [others[place] for place in drawn]]
    needed = 2 * max(1, count - 1) if count > 1 else 1
    if len(ordered) < needed:
        raise ImageError(
            f"{count} pairs need photographs of {needed} classes, a folder each, but {folder} has "
            f"{len(ordered)}. Ask for {max(1, len(ordered) // 2 + 1)} --pairs, or give more."
        )
    pairs = [_Pair(ordered[0], ordered[0])]
    pairs += [_Pair(*ordered[place : place + 2]) for place in range(0, 2 * (count - 1), 2)]
    return pairs


def _photographs(folder: Path) -> tuple[SourceImage, ...]:
    found = find_images(folder)
    if found.kind != "folders":
        raise ImageError(
            f"Expected photographs as files in a folder, but {folder} is of the kind "
            f"'{found.kind}'. Unpack it: runs name the files of their sources and targets."
        )
    return found.files


def write_subset(folder: Path, out: Path, count: int) -> None:
    """Copies photographs that a seed draws, those of fewer among those of more.

    What is there already is kept, so a copy that was stopped goes on.

    Args:
        folder: Photographs, as ``class/file``.
        out: Where they go, under the same names.
        count: How many.

    Raises:
        ImageError: If the folder holds none.
        DiskFullError: If the disk is full.
    """
    files = _photographs(folder)
    order = keyed_generator(_SEED, "subsets of photographs").permutation(len(files))
    for place in order[:count]:
        copy = out / files[place].name
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with written_beside(copy) as partial:
                shutil.copyfile(files[place].path, partial)


def _row(given: StandIn, pair: _Pair, number: int, num_images: int, subset: int = 0) -> Row:
    network = given.network_name
    place = f"photographs_{number:02}"
    words = [
        *("collide", "--source", "{source}", "--target", "{target}"),
        *("--store", "{store}", "--out", "{out}", *_network_words(given)),
    ]
    if pair.source == pair.target:
        words += ["--set", "allow_same_image=true"]
    photographs = "{subset}" if subset else "{imagenet}"
    settings = [word for text in given.settings for word in ("--set", _literal(text))]
    variant = Variant(
        commands=(
            " ".join(["index", photographs, "--out", "{store}", *settings]),
            " ".join([*words, *settings]),
        ),
        images={
            "source": glob.escape(pair.source.name),
            "target": glob.escape(pair.target.name),
        },
        needs=("imagenet", "vgg16-weights") if network == "vgg16" else ("imagenet",),
        minutes=_MINUTES.get(network, _FEW_MINUTES),
        hardware="2 cores (estimated)",
        metrics=_metrics(pair.origin),
        subset=subset,
    )
    return Row(
        name=f"{place}_store_{subset:03}" if subset else place,
        table="sizes" if subset else "photographs",
        title=f"stand-in, {network}, patches, {pair.title}"
        + (f", store of {subset}" if subset else ""),
        origin=pair.origin,
        quick=False,
        variant=variant,
        note=_note(given, num_images),
    )


def _network_words(given: StandIn) -> list[str]:
    # The weights of VGG-16 may be torchvision's, which `Inputs` looks for.
    weights = "{weights}" if given.network_name == "vgg16" else _literal(str(given.weights or ""))
    options: Mapping[str, str] = {
        "--network": _literal(given.network),
        "--layer": _literal(given.layer),
        "--weights": weights,
    }
    return [word for option, value in options.items() if value for word in (option, value)]


def _literal(text: str) -> str:
    """Returns a word of a command that stands for itself; nothing for nothing."""
    return shlex.quote(text).replace("{", "{{").replace("}", "}}") if text else ""


def _note(given: StandIn, num_images: int) -> str:
    weights = given.weights.name if given.weights else ""
    parts = filter(None, (given.network_name, given.layer, weights))
    return (
        f"A stand-in for the paper's network and data: {', '.join(parts)}, and a "
        f"store of {num_images:,} photographs, where the paper's holds {PAPER_IMAGES:,}."
    )


def _metrics(origin: str) -> list[Metric]:
    paper = _PAPER.get(origin, {})
    share_of_p, distance = paper.get("share of p"), paper.get("distance")
    return [
        Metric(
            name="success_rate",
            paper=1.0 if paper else None,
            expected=1.0,
            direction="at least",
        ),
        Metric(
            name="sample_probability_share",
            paper=share_of_p,
            expected=0.8,
            direction="at least",
        ),
        Metric(
            name="vertex_distance_share",
            paper=distance,
            expected=distance or _PAPER["Table 6, row 1"]["distance"],
            tolerance=0.1,
            relative=True,
            direction="at least",
        ),
        Metric(name="tau_max", expected=_LARGEST_TAU, direction="at most"),
    ]


def _called(file: SourceImage) -> str:
    """Returns what a photograph is of: what its name says beside its class, else the class."""
    stem = Path(file.name).stem
    rest = stem.removeprefix(f"{file.label}_").replace("_", " ")
    return file.label or stem if rest.isdecimal() else rest
