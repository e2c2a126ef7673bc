"""The numbers of the paper's tables, and a run's beside them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PAPER_ROWS", "Row", "comparison_rows"]


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
    """

    setting: str
    origin: str
    success_rate: float
    target_probability: float
    sample_probability: float
    dataset_distance: float | None
    vertex_distance: float | None
    is_ours: bool = False

    @property
    def distance_share(self) -> float | None:
        """The vertices' distance as a share of the data set's; None if either is unknown."""
        if self.dataset_distance is None or self.vertex_distance is None:
            return None
        return self.vertex_distance / self.dataset_distance if self.dataset_distance > 0 else None


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
PAPER_ROWS: tuple[Row, ...] = (
    _mnist(1, "from the target itself", 1.33),
    _mnist(2, "from another digit", 1.28),
    _imagenet("Table 4, row 1", "pixels, from another image", 0.993, 0.995, 4906.56),
    _imagenet("Table 6, row 1", "patches, church with itself", 0.952, 0.877, 8597.34),
    _imagenet("Table 6, row 2", "patches, church with cleaver", 0.999, 0.800, 9587.92),
)


def comparison_rows(summary: Mapping[str, Any]) -> list[Row]:
    """Returns the paper's rows, then the run's own.

    Args:
        summary: What the evaluation of a run found; see
            :func:`patchcollide.report.page.render_page` for its keys.

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
    return [*PAPER_ROWS, ours]


def _measured(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
