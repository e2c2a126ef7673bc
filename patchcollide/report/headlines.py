"""The numbers of a run that a person looks for first, for the terminal and the page."""

from patchcollide.evaluation.summary import Summary
from patchcollide.formats import as_gap, as_percent

_TITLES = {
    "feature collision": "features of the target, not its look",
    "class collision": "the class of the target, the look of the source",
    "none": "no collision with the target",
}
"""What a figure says in its title, by the verdict."""


def headline(summary: Summary) -> list[tuple[str, str]]:
    """Returns the numbers a person looks for first, as names and text."""
    low, high = summary["success_interval"]
    dataset = summary["dataset_distance_mean"]
    share = (
        f" ({summary['vertex_distance_mean'] / dataset:.1%} of the data set's)" if dataset else ""
    )
    return [
        *tightness_lines(summary),
        ("target", f"{summary['target_class_name']}, {summary['target_probability']:.3f}"),
        ("samples in the target's class", f"{summary['success_rate']:.2%} ({low:.2%}..{high:.2%})"),
        ("mean probability of samples", f"{summary['sample_probability_mean']:.3f}"),
        ("mean distance between vertices", f"{summary['vertex_distance_mean']:.0f}{share}"),
        *closeness_lines(summary),
        ("steps", f"{summary['steps']}: {summary['stopped_because']}"),
        ("seconds", f"{sum(summary['seconds'].values()):.0f}"),
        ("peak memory", f"{summary['peak_memory_bytes'] / 2**30:.1f} GB"),
    ]


def tightness_lines(summary: Summary) -> list[tuple[str, str]]:
    """Returns what a collision is called and how tight it is, as names and text.

    Tau is the distance of features, as a share of the target's from silence. The target's known
    changes and other images stand beside; nothing is said of runs that did not measure it.
    """
    if "tightness" not in summary:
        return []
    block = summary["tightness"]
    hull, floor = block["hull"], block["floor"]
    taus = (hull["tau_mean"], hull["tau_quantile"], hull["tau_max"])
    false, active = round(hull["false_responders_mean"]), block["active_units"]
    return [
        ("verdict", block["sentence"]),
        ("tau of samples, mean/95 %/largest", " / ".join(map(as_gap, taus))),
        *([("tau: rounding alone", as_gap(floor))] if floor is not None else []),
        (
            "cosine to the target, mean/least",
            f"{hull['cosine_mean']:.3f} / {hull['cosine_min']:.3f}",
        ),
        ("active units dead, in the mean", as_percent(hull["dead_share_mean"])),
        ("others that respond, in the mean", f"{false}, beside {active} active"),
        *((f"tau: {name}", as_gap(tau)) for name, tau in block["yardstick"].items()),
    ]


def closeness_lines(summary: Summary) -> list[tuple[str, str]]:
    """Returns how close vertices are to the source, and whether their units are deepest there.

    As names and text; nothing is said of runs that did not measure it.
    """
    lines: list[tuple[str, str]] = []
    if "closeness" in summary:
        found, dataset = summary["closeness"], summary["dataset_distance_mean"]
        far = found["distance_mean"]
        share = f" ({far / dataset:.1%} of the data set's)" if dataset else ""
        lines += [
            ("mean distance from the source", f"{far:.0f}{share}"),
            (
                "SSIM to the source, mean/least",
                f"{found['ssim_mean']:.3f} / {found['ssim_min']:.3f}",
            ),
        ]
    seen = summary.get("visibility")
    if seen and seen.get("block_share") is not None:
        lines.append(("of their difference, kept by blocks", as_percent(seen["block_share"])))
    if driven := summary.get("driven_units"):
        deepest = sum(unit["rank"] == 1 for unit in driven)
        lines.append(("units deepest at their own vertex", f"{deepest} of {len(driven)}"))
    return lines


def called(summary: Summary) -> str:
    """Returns what a page calls a run's polytope: its verdict, if its features were measured."""
    if "tightness" not in summary:
        return "features not measured"
    name = summary["tightness"]["verdict"]
    return "no collision" if name == "none" else name


def figure_title(summary: Summary) -> str:
    """Returns the title of a run's figure, which is the one of old where nothing was measured."""
    block = summary.get("tightness")
    said = _TITLES[block["verdict"] if block else "feature collision"]
    return f"{summary['network']}, {summary['layer']}: {said}"
