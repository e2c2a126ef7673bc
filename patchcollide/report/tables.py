"""Tables of numbers: the paper's beside a run's, and dimensions layer by layer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from patchcollide.evaluation.dimensions import LayerDimensions
from patchcollide.evaluation.summary import Summary
from patchcollide.networks.overview import NetworkOverview
from patchcollide.polyhedra.proposition1 import Proposition1

_HEADINGS = ("layer", "units", "d", "|P|", "d - |P|", "dimension", "kernel", "bounded", "inputs")

_UNKNOWN = "-"

_NOTHING = Proposition1(0, 0, 0, 0, False, 0.0)


@dataclass(frozen=True)
class Row:
    """One setting of a table of collisions.

    Distances are L2 over all pixels and channels, in the 0..255 scale for photographs; the
    paper's Table 2 measures digits in a scale of its own.

    Attributes:
        setting: What was made to collide, in which network and how.
        origin: Where the numbers come from, such as ``Table 6, row 2`` or ``this run``.
        success_rate: Share of the hull samples classified as the target's class, 0..1.
        target_probability: Probability of the target's class for the target.
        sample_probability: Mean probability of the top class over the hull samples.
        dataset_distance: Mean distance between two images of the data set; None if not measured.
        vertex_distance: Mean distance between two vertices; None if there is only one.
        is_ours: Whether this run gave the numbers.
        verdict: What the collision is called, in three words; empty if it was not measured.
        tau_mean: How far features of samples are from the target's, as a share of theirs; None if
            it is not known.
        tau_max: The same, of the farthest sample.
        coarse_share: Of the vertices' squared difference, how much means over blocks of 8 pixels
            keep; None if it is not known.
        source_distance: Mean distance of the vertices from the source; None if it is not known.
        store_images: Of how many images patches come from; None if it is not known.
    """

    setting: str
    origin: str
    success_rate: float
    target_probability: float
    sample_probability: float
    dataset_distance: float | None
    vertex_distance: float | None
    is_ours: bool = False
    verdict: str = ""
    tau_mean: float | None = None
    tau_max: float | None = None
    coarse_share: float | None = None
    source_distance: float | None = None
    store_images: int | None = None

    @property
    def distance_share(self) -> float | None:
        """The vertices' distance as a share of the data set's; None if either is unknown."""
        if self.dataset_distance is None or self.vertex_distance is None:
            return None
        return self.vertex_distance / self.dataset_distance if self.dataset_distance > 0 else None

    @property
    def source_share(self) -> float | None:
        """The distance from the source as a share of the data set's; None if either is unknown."""
        if self.dataset_distance is None or self.source_distance is None:
            return None
        return self.source_distance / self.dataset_distance if self.dataset_distance > 0 else None


def _mnist(row: int, source: str, vertex_distance: float) -> Row:
    return Row(
        setting=f"MNIST, 784-256-256-10, fc1, pixels, {source}",
        origin=f"Table 2, row {row}",
        success_rate=1.0,
        target_probability=1.0,
        sample_probability=1.0,
        dataset_distance=10.21,
        vertex_distance=vertex_distance,
    )


def _imagenet(
    origin: str,
    setting: str,
    target_probability: float,
    sample_probability: float,
    vertex_distance: float,
) -> Row:
    return Row(
        setting=f"VGG-16, fc6, {setting}",
        origin=origin,
        success_rate=1.0,
        target_probability=target_probability,
        sample_probability=sample_probability,
        dataset_distance=37538.22,
        vertex_distance=vertex_distance,
    )


#: Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019.
DIGIT_ROWS: tuple[Row, ...] = (
    _mnist(1, "from the target itself", 1.33),
    _mnist(2, "from another digit", 1.28),
)
PHOTOGRAPH_ROWS: tuple[Row, ...] = (
    _imagenet("Table 4, row 1", "pixels, from another image", 0.993, 0.995, 4906.56),
    _imagenet("Table 6, row 1", "patches, church with itself", 0.952, 0.877, 8597.34),
    _imagenet("Table 6, row 2", "patches, church with cleaver", 0.999, 0.800, 9587.92),
)

PAPER_ROWS = DIGIT_ROWS + PHOTOGRAPH_ROWS


def comparison_rows(summary: Summary, *, of_digits: bool) -> list[Row]:
    """Returns the paper's rows, then the run's own.

    Args:
        summary: Of the run.
        of_digits: Whether its images are as those of the paper's Table 2, not of Tables 4 and 6.

    Raises:
        KeyError: If the summary lacks one of the numbers compared.
    """
    names = f"{summary['source_class_name']} with {summary['target_class_name']}"
    ours = Row(
        setting=(
            f"{summary['network']}, {summary['layer']}, {summary['parameterisation']}, {names}"
        ),
        origin="this run",
        success_rate=float(summary["success_rate"]),
        target_probability=float(summary["target_probability"]),
        sample_probability=float(summary["sample_probability_mean"]),
        dataset_distance=_measured(summary["dataset_distance_mean"]),
        vertex_distance=(
            _measured(summary["vertex_distance_mean"]) if summary["num_vertices"] > 1 else None
        ),
        is_ours=True,
    )
    return [*(DIGIT_ROWS if of_digits else PHOTOGRAPH_ROWS), ours]


def _measured(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; its first row are the headings."""
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    # A bar would end a cell.
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


LAYERS_HEADER = ("layer", "kind", "units", "size", "blind", "active", "can be asked")
"""The headings of :func:`layer_lines`."""


def layer_lines(found: NetworkOverview) -> list[list[str]]:
    """Returns a row for each run of an activation: see :data:`LAYERS_HEADER`.

    Where there is no blind region, ``active`` has the share of units that is not blind at each of
    :data:`patchcollide.networks.activations.TOLERANCES`.
    """
    rows = []
    for layer in found.layers:
        shares = (f"{1 - share:.0%} at {at:g}" for at, share in layer.blind_shares.items())
        active = ", ".join(shares) if layer.active is None else f"{layer.active:.1%}"
        nothing = "nothing without a tolerance" if layer.call.by_image else "nothing"
        rows.append(
            [
                layer.call.name,
                layer.call.kind,
                str(layer.units),
                "x".join(map(str, layer.call.shape)),
                layer.regions,
                active,
                ", ".join(layer.can) or nothing,
            ]
        )
    return rows


def dimension_lines(found: Mapping[str, Sequence[LayerDimensions]]) -> list[str]:
    """Returns a table, one line a layer; of several images the mean, the least and the most.

    ``kernel`` says whether the kernel condition holds (see
    :class:`patchcollide.polyhedra.proposition1.Proposition1`), and ``inputs`` which values a
    layer's polytope lies among. Why figures are not computed is said in their place.

    Args:
        found: For each layer, what is known of each image.
    """
    known = {layer: _cells(of_images) for layer, of_images in found.items()}
    rows = [_HEADINGS, *((layer, *cells) for layer, (cells, _) in known.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    aligned = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=False)]
            + [row[-1].ljust(widths[-1])]
        )
        for row in rows
    ]
    reasons = ["", *(reason for _, reason in known.values())]
    return [f"{line}  {reason}".rstrip() for line, reason in zip(aligned, reasons, strict=True)]


def _cells(of_images: Sequence[LayerDimensions]) -> tuple[tuple[str, ...], str]:
    found = [one.found or _NOTHING for one in of_images]
    reasons = dict.fromkeys(one.not_computed for one in of_images if one.not_computed)
    kinds = dict.fromkeys(str(one.input_kind) for one in of_images if one.input_kind)
    cells = (
        _numbers([one.units for one in of_images]),
        _numbers([one.dimension_of_inputs for one in of_images]),
        _numbers([one.num_matched for one in of_images]),
        _numbers([one.bound for one in of_images]),
        _numbers([part.dimension for part in found]),
        _answers([part.kernel_within for part in found]),
        _answers([part.bounded for part in found]),
        ", ".join(kinds) or _UNKNOWN,
    )
    return cells, f"not computed: {'; '.join(reasons)}" if reasons else ""


def _numbers(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return _UNKNOWN
    if min(known) == max(known):
        return str(known[0])
    return f"{sum(known) / len(known):.1f} ({min(known)}..{max(known)})"


def _answers(values: Sequence[bool | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return _UNKNOWN
    if all(known) or not any(known):
        return "yes" if known[0] else "no"
    return f"yes for {sum(known)} of {len(known)}"
