"""Several runs side by side, as tables in Markdown."""

from collections.abc import Mapping
from typing import Any

from patchcollide.errors import RunError
from patchcollide.report.formats import as_number, as_percent, as_probability

_KINDS = ("patches", "pixels")
_Rows = Mapping[str, Mapping[str, str]]


def side_by_side(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the figures of runs in Markdown: compositions of patches first, then free pixels.

    Three tables: what the paper reports, and how alike the vertices look, beside yardsticks; the
    share of their squared difference by size of detail; and the difference left after blurring and
    halving.

    Args:
        summaries: What ``summary.json`` holds, by the names of the runs.

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


def _kind(summary: Mapping[str, Any]) -> int:
    kind = summary.get("parameterisation")
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def _headline(summary: Mapping[str, Any]) -> dict[str, str]:
    seen, distance = summary["visibility"], summary["vertex_distance_mean"]
    of_data = summary["dataset_distance_mean"]
    return {
        "vary": summary["parameterisation"],
        "network": summary["network"],
        "collide": as_percent(summary["success_rate"]),
        "p target": as_probability(summary["target_probability"]),
        "p samples": as_probability(summary["sample_probability_mean"]),
        "vertex L2": as_number(distance),
        "of data set": as_percent(distance / of_data if of_data else None),
        "coarse difference": as_number(seen.get("coarse_rms"), 1),
        "with noise of 12": as_number(_yardstick(seen, "noise", "coarse_rms"), 1),
        "brighter by 40": as_number(_yardstick(seen, "brightness", "coarse_rms"), 1),
        "SSIM, mean": as_probability(seen["ssim_mean"]),
        "SSIM, least": as_probability(seen["ssim_min"]),
        "SSIM with noise of 12": as_probability(_yardstick(seen, "noise", "ssim_mean")),
        "SSIM brighter by 40": as_probability(_yardstick(seen, "brightness", "ssim_mean")),
        "pixels that differ by more than 8": as_percent(seen["visible_share"]),
    }


def _yardstick(seen: Mapping[str, Any], change: str, figure: str) -> float | None:
    """Returns what a known change alone gives; None for runs of the first version."""
    value: float | None = seen.get("yardsticks", {}).get(change, {}).get(figure)
    return value


def _bands(summary: Mapping[str, Any]) -> dict[str, str]:
    kind, seen = {"vary": summary["parameterisation"]}, summary["visibility"]
    if "bands" not in seen:
        # The first version measured means over blocks, which depend on where these lie.
        octaves = seen["octaves"]
        return kind | {f"blocks of {p['side_px']} px": as_percent(p["share"]) for p in octaves}
    shares = {f"{part['side_px']} px": as_percent(part["share"]) for part in seen["bands"]}
    return kind | shares | {"mean colour": as_percent(seen["mean_colour_share"])}


def _halvings(summary: Mapping[str, Any]) -> dict[str, str]:
    kind = {"vary": summary["parameterisation"]}
    halved = summary["visibility"]["halved"]
    return kind | {str(part["halvings"]): as_number(part["rms"], 1) for part in halved}


def _table(rows: _Rows) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["run", *columns], ["---", *["---"] * len(columns)]]
    lines += [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    # A bar would end a cell.
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )
