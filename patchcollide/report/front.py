"""What a page of a run says first: what was found, how near features are, how different pictures.

A reader has half a minute. All else is in the parts of the page that open.
"""

from dataclasses import dataclass

from patchcollide.evaluation.summary import Summary
from patchcollide.evaluation.verdicts import TightnessBlock, beside
from patchcollide.formats import as_amount, as_percent, as_probability
from patchcollide.report.proofs import Known, known_between

__all__ = ["Answer", "Front", "make_front"]

_COUNTS = ("", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
_MOVED = "target moved by"
_NO_BOUND = "no bound"
_CORNERS = "corners of a polytope, with their weighted means between them"


@dataclass(frozen=True)
class Answer:
    """A number, and what it is."""

    value: str
    text: str


@dataclass(frozen=True)
class Front:
    """What stands first on a page.

    Attributes:
        title: The verdict with its number.
        made: What the vertices are, and what a vertex is.
        said: What the network makes of them.
        known: What is proved of all images between them, beside what was sampled; none of one.
        near: How near features are; None if it was not measured.
        different: How different the vertices are; None of a single one.
    """

    title: str
    made: str
    said: str
    known: tuple[Known, ...]
    near: Answer | None
    different: Answer | None


def make_front(summary: Summary) -> Front:
    """Gathers it from a run's summary."""
    block, is_single = summary.get("tightness"), summary["num_vertices"] == 1
    return Front(
        title=_title(summary, block),
        made=_made(summary),
        said=_said(summary, block),
        known=() if is_single else tuple(known_between(summary)),
        near=None if block is None else _near(summary, block),
        different=None if is_single else _different(summary),
    )


def _title(summary: Summary, block: TightnessBlock | None) -> str:
    if block is None:
        return f"{summary['source_class_name']} → {summary['target_class_name']}"
    if block["verdict"] == "none":
        rate = as_percent(summary["success_rate"], 2)
        return f"No collision: {rate} of the samples are of the target's class"
    tau, gamma = _tau(block), f"{block['gamma']:g}"
    if block["verdict"] == "class collision":
        return f"Class collision: features up to {tau} from the target's, not {gamma}"
    return f"Feature collision at {gamma}: features within {tau} of the target's"


def _tau(block: TightnessBlock) -> str:
    """The largest of the samples, as the verdict's sentence says it."""
    tau = block["hull"]["tau_max"]
    return _NO_BOUND if tau is None else beside(tau, block["gamma"])


def _made(summary: Summary) -> str:
    count, kind = summary["num_vertices"], summary["parameterisation"]
    number = _COUNTS[count] if count < len(_COUNTS) else str(count)
    images = "One image was" if count == 1 else f"{number} vertices were"
    if summary.get("exact"):
        over = "coefficients of patches" if "patches" in kind else "all pixels"
        made = f"{images} found exactly, by linear programs over {over}"
    elif kind == "patches":
        made = f"{images} composed of patches of other images that are like the source's"
    else:
        made = f"{images} found by varying the pixels of the source freely"
    return made if count == 1 else f"{made}: {_CORNERS}"


def _said(summary: Summary, block: TightnessBlock | None) -> str:
    """Says class and features of the vertices and of what lies between, no more than measured."""
    network, layer, count = summary["network"], summary["layer"], summary["num_samples"]
    is_all, single = summary["success_rate"] == 1, summary["num_vertices"] == 1
    share = f"all {count:,}" if is_all else f"{as_percent(summary['success_rate'], 2)} of {count:,}"
    where = "samples of the one vertex" if single else "samples between them"
    chances = (
        f"with a mean probability of {as_probability(summary['sample_class_probability_mean'])}, "
        f"the target with {as_probability(summary['target_probability'])}"
    )
    classes = f"{network} takes {share} {where} for {summary['target_class_name']} {chances}"
    if block is None:
        return f"{classes}. How near their features are to the target's was not measured"
    if block["verdict"] == "feature collision":
        near = "as near as asked" if block["asked"] else "near the target's"
        return f"{classes}, and their features at its layer {layer} are {near}"
    asked = "was asked for" if block["asked"] else "a feature collision needs"
    within = f"within the {block['gamma']:g} of the target that {asked}"
    return f"{classes}. At its layer {layer} not all are {within}"


def _near(summary: Summary, block: TightnessBlock) -> Answer:
    moved = ((name, tau) for name, tau in block["yardstick"].items() if name.startswith(_MOVED))
    known = next((f" The {name} is at {tau:.2g}." for name, tau in moved if tau is not None), "")
    return Answer(
        _tau(block),
        f"is tau of the farthest of {summary['num_samples']:,} samples. Tau says how far features "
        f"are from the target's: 0 is the same, 1 is as far as no response at all.{known}",
    )


def _different(summary: Summary) -> Answer:
    distance, dataset = summary["vertex_distance_mean"], summary["dataset_distance_mean"]
    seen = summary.get("visibility", {}).get("coarse_rms")
    coarse = "" if seen is None else f" Coarse detail differs by {seen:.0f} of 255."
    source = summary.get("closeness", {}).get("distance_mean")
    if not dataset:
        return Answer(as_amount(distance), f"lies between two vertices (L2, 0 to 255).{coarse}")
    away = "" if source is None else f" The source is {as_percent(source / dataset, 0)} away."
    return Answer(
        as_percent(distance / dataset, 0),
        f"is how far apart two of them are on average, where two random images are at "
        f"{as_percent(1)} (L2 {as_amount(distance)} and {as_amount(dataset)}).{away}{coarse}",
    )
