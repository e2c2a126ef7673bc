"""What a run claims, in rows for the page and in lines for the terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from patchcollide.errors import RunError
from patchcollide.evaluation.claims import EdgeFigures, EdgeWalks
from patchcollide.evaluation.gaps import by_name
from patchcollide.evaluation.summary import Claims, Summary
from patchcollide.formats import NOT_MEASURED, as_gap, as_number, as_percent, as_share

_LABELS = {
    "feature_distance_relative": "distance of features, of the target's from silence",
    "feature_distance": "distance of features (L2)",
    "active_feature_gap_mean": "active units, mean gap",
    "active_feature_gap_max": "active units, largest gap",
    "active_feature_gap_mean_relative": "mean gap, of the target's mean",
    "active_feature_gap_max_relative": "largest gap, of the target's mean",
    "inactive_response_share": "inactive units that respond",
    "inactive_response_mean": "their mean response",
    "inactive_response_max": "largest response",
}

# Runs of the first version, whose gaps were measured before the activation.
_OLD_LABELS = {
    "active_gap_mean": "active units, mean gap before the activation",
    "active_gap_max": "active units, largest gap before the activation",
    "active_gap_mean_relative": "mean gap before it, of the target's mean",
    "active_gap_max_relative": "largest gap before it, of the target's mean",
    "inactive_violation_share": "inactive units that respond",
    "inactive_violation_mean": "their mean response",
    "inactive_violation_max": "largest response",
}

_SHARES = {
    "feature_distance_relative",
    "active_feature_gap_mean_relative",
    "active_feature_gap_max_relative",
    "inactive_response_share",
    "active_gap_mean_relative",
    "active_gap_max_relative",
    "inactive_violation_share",
}

HEADER = (
    "gap to the target",
    "hull, mean",
    "hull, worst",
    "hull not rounded, worst",
    "vertices, worst",
    "source",
    "other images, 5 / 50 / 95 %",
)

EDGE_HEADER = (
    "edge",
    "sampled margin",
    "worst margin",
    "at",
    "least there",
    "pieces",
    "share walked",
)


@dataclass(frozen=True)
class GapRow:
    """One figure of the gaps, as text.

    Attributes:
        label: What it is.
        values: One for each column of :data:`HEADER` but the first.
    """

    label: str
    values: tuple[str, ...]


class ClaimParts(TypedDict):
    """Claims as the template shows them: headers, rows of text, sentences."""

    gap_header: Sequence[str]
    gap_rows: Sequence[GapRow]
    others_sentence: str
    edge_header: Sequence[str]
    edge_rows: Sequence[Sequence[str]]
    walk_sentence: str


def claim_parts(summary: Summary) -> ClaimParts:
    """Returns a run's claims as the page shows them."""
    claims = summary.get("certificate")
    walk = claims.get("walk") if claims else None
    return {
        "gap_header": HEADER,
        "gap_rows": gap_rows(summary),
        "others_sentence": others_sentence(summary),
        "edge_header": EDGE_HEADER,
        "edge_rows": [edge_row(edge) for edge in walk["edges"]] if walk else [],
        "walk_sentence": walk_sentence(walk) if walk and walk["edges"] else "",
    }


def gap_rows(summary: Summary) -> list[GapRow]:
    """Returns the figures of the gaps; none for a run without claims."""
    claims = summary.get("certificate")
    if not claims:
        return []
    labels = {**_LABELS, **_OLD_LABELS}
    return [_gap_row(claims, name, labels[name]) for name in labels if name in claims["hull"]]


def _gap_row(claims: Claims, name: str, label: str) -> GapRow:
    def text(value: float | None) -> str:
        return as_share(value) if name in _SHARES else as_gap(value)

    hull, others = by_name(claims["hull"])[name], claims.get("others")
    return GapRow(
        label=label,
        values=(
            text(hull["mean"]),
            text(hull["max"]),
            text(by_name(claims["hull_unrounded"])[name]["max"]),
            text(by_name(claims["vertices"])[name]["max"]),
            text(by_name(claims["source"])[name]),
            " / ".join(map(text, by_name(others["quantiles"])[name])) if others else NOT_MEASURED,
        ),
    )


def others_sentence(summary: Summary) -> str:
    """Says how near a hull is to the target beside what nobody made collide; empty if unknown."""
    claims = summary.get("certificate")
    others = claims.get("others") if claims else None
    if not others:
        return ""
    controls = "; ".join(f"{name} {as_percent(tau)}" for name, tau in others["controls"].items())
    nearer, near, count = others["num_nearer"], others["is_near"], others["num_images"]
    farther = sum(tau is None or tau > 1 for tau in others["distances"])
    text = (
        f"Of {count} images of the data set, {nearer['hull_mean']} are nearer to the target's "
        f"features than the hull's mean sample, {nearer['hull_worst']} than its worst one. "
        f"Features that say nothing at all would be nearer than {farther} of them, so to be nearer "
        f"than images alone shows little. The controls are: {controls}. The hull's mean sample is "
        f"{_nearer(near['hull_mean'])} all controls, its worst one is "
        f"{_nearer(near['hull_worst'])} all of them."
    )
    if left_out := others["num_left_out"]:
        text += f" Left out, as their features are the target's own: {left_out}."
    if pairs := others["pair_quantiles"]:
        text += (
            f" Two of these images are {as_percent(pairs[1])} from each other, in the same unit "
            f"(median of {others['num_pairs']} pairs)."
        )
    return text


def _nearer(is_near: bool) -> str:
    return "nearer than" if is_near else "not nearer than"


def claim_lines(summary: Summary) -> Iterator[str]:
    """Yields a run's claims as lines of plain text.

    Raises:
        RunError: If the summary has none.
    """
    claims = summary.get("certificate")
    if not claims:
        raise RunError("The summary of the run has no claims. Evaluate the run again.")
    yield from aligned([HEADER, *((row.label, *row.values) for row in gap_rows(summary))])
    yield ""
    if sentence := others_sentence(summary):
        yield sentence
    shape = claims["degeneracy"]
    yield (
        f"The vertices span {shape['affine_rank']} of {shape['full_rank']} dimensions; relative "
        f"volume {as_gap(shape['relative_volume'])} (1: regular, 0: flat)."
    )
    walk = claims["walk"]
    if walk is None or not walk["edges"]:
        yield "No edge was walked."
        return
    yield ""
    yield from aligned([EDGE_HEADER, *map(edge_row, walk["edges"])])
    yield ""
    yield walk_sentence(walk)


def edge_row(edge: EdgeFigures) -> tuple[str, ...]:
    """Returns an edge's figures, in the columns of :data:`EDGE_HEADER`."""
    return (
        "{} to {}".format(*edge["edge"]),
        as_number(edge["sampled_margin"], 4),
        as_number(edge["worst_margin"], 4),
        as_number(edge["worst_at"], 6),
        "yes" if edge["is_exact"] else "no",
        str(edge["num_pieces"]),
        f"{100 * edge['share_walked']:.3g} %",
    )


def walk_sentence(walk: EdgeWalks) -> str:
    """Says what the walks prove, and what they do not."""
    worst = (
        f"The smallest margin of the target's class found on the {walk['num_edges']} edges is "
        f"{as_number(walk['worst_margin'], 4)} (logits)"
    )
    if walk["complete"]:
        return f"{worst}. Every piece of every edge was walked: there is none smaller on them."
    near = "walked: next to it there is none smaller" if walk["is_exact"] else "a sample"
    return (
        f"{worst}, which is {near}. {100 * walk['share_walked']:.2g} % of the edges' length was "
        f"walked ({walk['num_pieces']} linear pieces); the rest is known at {walk['num_samples']} "
        "samples an edge only."
    )


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields rows of a table as lines, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (
            text.ljust(width) if not place else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *others]).rstrip()
