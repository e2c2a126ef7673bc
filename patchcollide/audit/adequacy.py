"""One number for a network: how little that people see escapes it, on some images.

An image's blindness is how large the polytope is of what its layer takes for the image, times how
sure the network is of its answer there, times how much of that people can see:
``min(size / whole, 1) * hull probability * sqrt(coarse share)``, each in 0..1. Size times the last
is the vertices' distance in coarse detail alone (:mod:`patchcollide.evaluation.visibility`), so
noise, however much it does to the structural similarity of two images, counts for the little of it
that is coarse, and brightness for all of it. ``whole`` is the size of the polytope that holds all
images, as a layer has that sees nothing: its vertices in random directions are random corners of
the box of pixels, on average ``255 * sqrt(values / 2)`` apart. The adequacy is 1 less the mean over
the images: 0 for a network that sees nothing and is certain, 1 where nothing visible collides.

The paper proposes no such number; the factors are what its Section 4 reports of a collision. A
network that is sure of nothing is not blind by this measure, so its accuracy belongs beside it.
Several networks are set side by side on the same images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchcollide.audit.documents import Adequacy, Audit, Figures, Interval
from patchcollide.audit.files import open_audit
from patchcollide.errors import RunError
from patchcollide.evaluation.intervals import mean_interval
from patchcollide.randomness import Purpose, seeded_numpy
from patchcollide.report.tables import markdown
from patchcollide.shapes import Float64, ndarray

HEADER = (
    "audit",
    "network, layer",
    "adequacy (95 %)",
    "less than the best by",
    "size",
    "certainty",
    "visibility",
    "right",
)

NO_INTERVAL = (
    "No interval: one image, or images that all give the same value, do not show how much others "
    "would differ."
)


@dataclass(frozen=True)
class AdequacyDifference:
    """By how much one network's adequacy exceeds another's on the same images.

    Attributes:
        difference: Positive where the first is more adequate.
        interval: Its 95 % interval over pairs; None where it has none, as of a single image.
    """

    difference: float
    interval: Interval | None


def whole_size(num_values: int) -> float:
    """Returns the size of the polytope of all images of so many values, in 0..255."""
    return 255 * math.sqrt(num_values / 2)


def factors(rows: Sequence[Figures], whole: float) -> Float64[ndarray, "images 3"]:
    """Returns the factors of each image's blindness: size, certainty and visibility, 0..1.

    Args:
        rows: Their ``size``, ``hull_probability`` and ``coarse_share`` count.
        whole: What :func:`whole_size` gives, in the unit of the sizes.
    """
    sizes = np.array([row["size"] for row in rows], dtype=np.float64)
    certain = np.array([row["hull_probability"] for row in rows], dtype=np.float64)
    # Of squares; sizes are distances.
    visible = np.sqrt(np.array([row["coarse_share"] for row in rows], dtype=np.float64))
    return np.stack([np.minimum(sizes / whole, 1.0), certain, visible], axis=1)


def blindness(rows: Sequence[Figures], whole: float) -> Float64[ndarray, "images"]:
    """Returns each image's blindness, 0..1; see :func:`factors`."""
    return np.asarray(factors(rows, whole).prod(axis=1))


def measure_adequacy(rows: Sequence[Figures], whole: float, seed: int) -> Adequacy:
    """Measures the adequacy of a network from an audit of it.

    Args:
        rows: One an image, at least one; see :func:`factors`.
        whole: See there.
        seed: Of the interval.
    """
    scores = 1 - blindness(rows, whole)
    size, certainty, visibility = factors(rows, whole).mean(axis=0).tolist()
    return {
        "score": float(scores.mean()),
        "interval": mean_interval(scores, _generator(seed)),
        "size": size,
        "certainty": certainty,
        "visibility": visibility,
        "num_images": len(rows),
    }


def compare_adequacy(
    first: Float64[ndarray, "images"], second: Float64[ndarray, "images"], seed: int
) -> AdequacyDifference:
    """Compares two networks, image by image, which leaves out how much images differ.

    Args:
        first: The blindness of each image to the one network.
        second: To the other, of the same images in the same order.
        seed: Of the interval.
    """
    differences = second - first
    return AdequacyDifference(
        float(differences.mean()), mean_interval(differences, _generator(seed))
    )


def _generator(seed: int) -> np.random.Generator:
    return seeded_numpy(seed, Purpose.ADEQUACY)


@dataclass(frozen=True)
class AdequacyRow:
    """A network in a table.

    Attributes:
        name: Of the audit's folder.
        network: The network and its layer.
        adequacy: See :mod:`patchcollide.audit.adequacy`.
        agreement: The share of images predicted as their folder; None if not known.
        behind: How much less it is than the most adequate network's; None for that.
    """

    name: str
    network: str
    adequacy: Adequacy
    agreement: float | None
    behind: AdequacyDifference | None

    def cells(self) -> tuple[str, ...]:
        """Returns the row as texts, one for each column of :data:`HEADER`."""
        found, behind = self.adequacy, "-"
        if self.behind is not None:
            behind = _with_interval(self.behind.difference, self.behind.interval)
        return (
            self.name,
            self.network,
            _with_interval(found["score"], found["interval"]),
            behind,
            f"{100 * found['size']:.1f} %",
            f"{found['certainty']:.3f}",
            f"{found['visibility']:.3f}",
            "unknown" if self.agreement is None else f"{100 * self.agreement:.1f} %",
        )


def _with_interval(value: float, interval: Interval | None) -> str:
    around = "no interval" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
    return f"{value:.4f} ({around})"


def compare_audits(folders: Sequence[Path]) -> list[AdequacyRow]:
    """Compares networks by finished audits of the same images, the most adequate first.

    Args:
        folders: One or more audits.

    Raises:
        RunError: If one is no finished audit or of an older version, or if they differ in their
            images or in how sizes were measured: a descent finds less than linear programs do.
    """
    audits = [open_audit(folder)[1] for folder in folders]
    for folder, audit in zip(folders, audits, strict=True):
        _require_this_measure(folder, audit)
    for folder, audit in zip(folders[1:], audits[1:], strict=True):
        _require_same_images(folders[0], audits[0], folder, audit)
        _require_same_way(folders[0], audits[0], folder, audit)
    seed = int(audits[0]["seed"])
    scores = [_blindness(audit) for audit in audits]
    best = int(np.argmin([each.mean() for each in scores]))
    rows = [
        AdequacyRow(
            name=folder.name or str(folder),
            network=f"{audit['network']}, {audit['layer']}",
            adequacy=measure_adequacy(audit["images"], audit["whole_size"], seed),
            agreement=audit["agreement"],
            behind=None if number == best else compare_adequacy(scores[best], scores[number], seed),
        )
        for number, (folder, audit) in enumerate(zip(folders, audits, strict=True))
    ]
    return sorted(rows, key=lambda row: -row.adequacy["score"])


def adequacy_table(rows: Sequence[AdequacyRow]) -> str:
    """Returns networks side by side in Markdown, with a sentence where an interval is missing."""
    table = markdown([HEADER, *(row.cells() for row in rows)])
    intervals = [row.adequacy["interval"] for row in rows]
    intervals += [row.behind.interval for row in rows if row.behind is not None]
    return table if all(intervals) else f"{table}\n{NO_INTERVAL}\n"


def _blindness(audit: Audit) -> np.ndarray:
    """Returns the blindness of each image, in the order of their names."""
    named = {row["name"]: row["blindness"] for row in audit["images"]}
    return np.array([named[name] for name in sorted(named)], dtype=np.float64)


def _require_this_measure(folder: Path, audit: Audit) -> None:
    if not all("coarse_share" in row for row in audit["images"]):
        raise RunError(
            f"{folder} was measured by an older version, which took sizes before the activation "
            "and visibility for structural similarity. Audit the same images again, into another "
            "folder."
        )


def _require_same_images(first_folder: Path, first: Audit, folder: Path, audit: Audit) -> None:
    ours, theirs = ({row["name"]: row["sha256"] for row in one["images"]} for one in (first, audit))
    if ours == theirs:
        return
    names = ours.keys() | theirs.keys()
    differing = sorted(name for name in names if ours.get(name) != theirs.get(name))
    raise RunError(
        f"Networks are compared on the same images, but {folder} ({len(theirs)} images) and "
        f"{first_folder} ({len(ours)}) differ in {len(differing)}, first in {differing[0]}. "
        "Audit the same folder with the same seed and audit.per_class."
    )


def _require_same_way(first_folder: Path, first: Audit, folder: Path, audit: Audit) -> None:
    if first["method"] != audit["method"]:
        raise RunError(
            f"{first_folder} was measured by '{first['method']}', {folder} by '{audit['method']}', "
            "and a descent finds other vertices than linear programs do. Audit both with --set "
            "audit.method=search."
        )
    sections = ["audit"] if first["method"] == "exact" else ["audit", "objective", "optimiser"]
    for section in sections:
        for key, value in first["settings"][section].items():
            other = audit["settings"][section].get(key)
            if value != other and (section, key) != ("audit", "method"):
                raise RunError(
                    f"{first_folder} was measured with {section}.{key} = {value}, {folder} with "
                    f"{other}. Audit both with the same."
                )
