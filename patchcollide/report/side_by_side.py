"""Figures of several runs in Markdown, side by side."""

from collections.abc import Mapping

from patchcollide.errors import RunError
from patchcollide.evaluation.summary import Summary
from patchcollide.evaluation.visibility import Visibility, Yardstick
from patchcollide.formats import as_gap, as_number, as_percent, as_probability
from patchcollide.report.tables import markdown

_KINDS = ("patches", "pixels")

_Rows = Mapping[str, Mapping[str, str]]


def side_by_side(summaries: Mapping[str, Summary]) -> str:
    """Returns the figures of runs in Markdown: compositions of patches first, then free pixels.

    Three tables: what the paper reports, and how alike the vertices look, beside yardsticks; the
    share of their squared difference by size of detail; and the difference left after blurring and
    halving.

    Args:
        summaries: By the names of the runs.

    Raises:
        RunError: If a summary lacks a figure.
    """
    tables: tuple[dict[str, Mapping[str, str]], ...] = ({}, {}, {})
    for name in sorted(summaries, key=lambda name: _kind(summaries[name])):
        try:
            figures = [part(summaries[name]) for part in (_headline, _bands, _halvings)]
        except (KeyError, TypeError) as error:
            raise RunError(
                f"The summary of {name} lacks a figure to compare ({error}). Measure the run again "
                "with `patchcollide evaluate`."
            ) from error
        for table, row in zip(tables, figures, strict=True):
            table[name] = row
    headline, bands, halvings = map(_table, tables)
    return (
        f"{headline}\n"
        "Share of the squared difference between vertices, by the size of the detail it is in "
        f"(half a period of so many pixels up to twice as many):\n\n{bands}\n"
        "Root mean squared difference of a value, in 0..255, after blurring and halving so many "
        f"times:\n\n{halvings}"
    )


def _kind(summary: Summary) -> int:
    kind = summary.get("parameterisation")
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def _headline(summary: Summary) -> dict[str, str]:
    seen, distance = summary["visibility"], summary["vertex_distance_mean"]
    of_data, (noise, brightness) = summary["dataset_distance_mean"], _yardsticks(seen)
    return {
        "vary": summary["parameterisation"],
        "network": summary["network"],
        **_tightness(summary),
        "in class": as_percent(summary["success_rate"]),
        "p target": as_probability(summary["target_probability"]),
        "p samples": as_probability(summary["sample_probability_mean"]),
        "vertex L2": as_number(distance),
        "of data set": as_percent(distance / of_data if of_data else None),
        **_closeness(summary),
        "coarse difference": as_number(seen.get("coarse_rms"), 1),
        "with noise of 12": as_number(noise["coarse_rms"], 1),
        "brighter by 40": as_number(brightness["coarse_rms"], 1),
        "SSIM, mean": as_probability(seen["ssim_mean"]),
        "SSIM, least": as_probability(seen["ssim_min"]),
        "SSIM with noise of 12": as_probability(noise["ssim_mean"]),
        "SSIM brighter by 40": as_probability(brightness["ssim_mean"]),
        "pixels that differ by more than 8": as_percent(seen["visible_share"]),
    }


def _tightness(summary: Summary) -> dict[str, str]:
    """Returns the columns of tightness; none of runs of before it was measured."""
    if "tightness" not in summary:
        return {}
    block = summary["tightness"]
    moved = next((tau for name, tau in block["yardstick"].items() if "moved" in name), None)
    return {
        "verdict": block["verdict"],
        "asked": as_gap(block["gamma"]),
        "tau, mean": as_gap(block["hull"]["tau_mean"]),
        "tau, largest": as_gap(block["hull"]["tau_max"]),
        "target moved": as_gap(moved),
        "active units dead": as_percent(block["hull"]["dead_share_mean"]),
    }


def _closeness(summary: Summary) -> dict[str, str]:
    """Returns the columns of closeness to the source; none of runs of before it was measured."""
    if "closeness" not in summary:
        return {}
    found, of_data = summary["closeness"], summary["dataset_distance_mean"]
    far, driven = found["distance_mean"], summary.get("driven_units") or []
    kept = summary["visibility"].get("block_share") if "visibility" in summary else None
    return {
        "from the source": as_number(far),
        "source, of data set": as_percent(far / of_data if of_data else None),
        "SSIM to the source": as_probability(found["ssim_mean"]),
        "kept by blocks, source": as_percent(found["block_share"]),
        "kept by blocks": as_percent(kept),
        "units deepest at their vertex": (
            f"{sum(unit['rank'] == 1 for unit in driven)} of {len(driven)}"
            if driven
            else "none driven"
        ),
    }


def _yardsticks(seen: Visibility) -> tuple[Yardstick, Yardstick]:
    """Returns what noise and brightness alone give; unknown for runs of the first version."""
    unknown: Yardstick = {"coarse_rms": None, "visible_share": None, "ssim_mean": None}
    known = seen.get("yardsticks", {})
    return known.get("noise", unknown), known.get("brightness", unknown)


def _bands(summary: Summary) -> dict[str, str]:
    kind, seen = {"vary": summary["parameterisation"]}, summary["visibility"]
    if "bands" not in seen:
        # The first version measured means over blocks, which depend on where these lie.
        octaves = seen["octaves"]
        return kind | {f"blocks of {p['side_px']} px": as_percent(p["share"]) for p in octaves}
    shares = {f"{part['side_px']} px": as_percent(part["share"]) for part in seen["bands"]}
    return kind | shares | {"mean colour": as_percent(seen["mean_colour_share"])}


def _halvings(summary: Summary) -> dict[str, str]:
    kind = {"vary": summary["parameterisation"]}
    halved = summary["visibility"]["halved"]
    return kind | {str(part["halvings"]): as_number(part["rms"], 1) for part in halved}


def _table(rows: _Rows) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = ([name, *(row.get(column, "") for column in columns)] for name, row in rows.items())
    return markdown([["run", *columns], *cells])
