"""What a proof of a hull says, in figures and in words."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Literal, NotRequired, TypedDict

from patchcollide.proofs.bounds import Method
from patchcollide.proofs.edges import EdgesProof
from patchcollide.proofs.parts import ProvedPart

Result = Literal["proved", "refuted", "open"]


class Proved(TypedDict):
    """Something of all images between vertices: what is proved, and the worst that was found.

    Attributes:
        proved: No image is beyond; None if it is not finite.
        found: The worst image found, by gradients on the weights and wherever bounds were low.
        weights: Of the vertices, at the worst image.
        method: How it was bounded; see :mod:`patchcollide.proofs.bounds`.
        cells: How many simplices were bounded.
        seconds: What that took.
    """

    proved: float | None
    found: float
    weights: list[float]
    method: Method
    cells: int
    seconds: float


class CounterExample(TypedDict):
    """An image between vertices that is not what was claimed.

    Attributes:
        weights: Of the vertices.
        class_name: What the network takes it for, after rounding to 8 bits.
        margin: Of the target's class, after rounding.
        tau: The distance of its features, after rounding.
        survives_rounding: Whether it is still one after rounding to 8 bits, as in its file.
    """

    weights: list[float]
    class_name: str
    margin: float
    tau: float
    survives_rounding: bool


class HullProof(TypedDict):
    """What is known of all images between vertices.

    Attributes:
        result: ``proved``, ``refuted`` or ``open``: whether all are of the target's class, and
            within ``gamma`` where that is not None.
        sentence: The same with its numbers.
        rounding: Whether images are meant that are rounded to 8 bits, in whatever way; else those
            before rounding.
        gamma: What features may differ by; None if only the class was claimed.
        margin: Of the class, in logits: the smallest.
        tau: The relative distance of features from the target's: the largest.
        share_proved: The share of the hull's volume whose class is proved.
        part: Where not all of the hull's class is proved: the part around its centre that is.
        at_centre: There, what the margin at the centre alone is proved to be at least.
        edges: There, what is known of the edges.
        counterexample: Of what is refuted.
        max_map_bytes: How large maps of bounds might be.
        not_mapped: Why there were none; missing where there were, or none were tried.
    """

    result: Result
    sentence: str
    rounding: bool
    gamma: float | None
    margin: Proved
    tau: Proved
    share_proved: float
    part: ProvedPart | None
    at_centre: NotRequired[float]
    edges: NotRequired[EdgesProof]
    counterexample: CounterExample | None
    max_map_bytes: int
    not_mapped: NotRequired[str]


def sentence(proof: HullProof, num_vertices: int, class_name: str) -> str:
    """Says what a proof proves, and what it does not."""
    margin, tau, gamma = proof["margin"], proof["tau"], proof["gamma"]
    images = f"every image between the {num_vertices} vertices"
    images += ", rounded to 8 bits in any way," if proof["rounding"] else ""
    claimed = f"is of class {class_name}"
    claimed += "" if gamma is None else f" and its features within {gamma:g} of the target's"
    numbers = (
        f"The smallest margin is at least {_at_least(margin['proved'])} logits "
        f"({margin['found']:.4g} found); features differ by at most {_at_most(tau['proved'])} "
        f"({tau['found']:.4g} found)."
    )
    if proof["result"] == "proved":
        return f"Proved: {images} {claimed}. {numbers}"
    if example := proof["counterexample"]:
        kept = "" if example["survives_rounding"] else "before rounding to 8 bits, "
        return (
            f"Refuted: not {images} {claimed}; {kept}there is one with a margin of "
            f"{margin['found']:.4g} logits, or features that differ by {tau['found']:.4g}."
        )
    return f"Open: whether {images} {claimed}. {numbers} {_partly(proof)}"


def _partly(proof: HullProof) -> str:
    """Says what is proved of a hull that is open."""
    part, edges = proof["part"], proof.get("edges")
    if edges and not proof["rounding"] and proof["at_centre"] <= 0:
        text = (
            "Nothing of it is proved: what float64 may round grows from layer to layer, and leaves "
            f"a margin of {proof['at_centre']:.4g} even at the centre alone."
        )
    else:
        text = f"The class is proved for {_percent(proof['share_proved'])} of the volume"
        if part:
            text += (
                f", and for the simplex around the centre with edges of {part['scale']:.3g} of the "
                f"whole one's ({_percent(part['share'])})"
            )
        text += f"; and for {_percent(edges['share_proved'])} of the edges." if edges else "."
    return text + _walked(edges) if edges else text


def _walked(edges: EdgesProof) -> str:
    """Says how far edges were walked where nothing can be proved."""
    if edges["share_walked"] is None or edges["walked_margin"] is None:
        return ""
    # Older files say it of all edges together.
    if shares := edges.get("shares_walked"):
        least, most = (_percent(end(shares)) for end in (min, max))
        far = f"{least if least == most else f'{least} to {most}'} of each edge, from a vertex on,"
    else:
        far = f"{_percent(edges['share_walked'])} of the edges"
    return (
        f" {far} was walked, {edges['pieces']} pieces in all on which the network is affine, in "
        f"{edges['seconds']:.2g} s, with margins of {_at_least(edges['walked_margin'])} and more: "
        "exact but for rounding, which makes it no proof."
    )


def _percent(share: float) -> str:
    """Returns a share that something holds of, rounded down: of less than all it is not 100 %."""
    return f"{_rounded(100 * share, 3, ROUND_FLOOR):.3g} %"


def _at_least(value: float | None) -> str:
    return "nothing known" if value is None else f"{_rounded(value, 4, ROUND_FLOOR):.4g}"


def _at_most(value: float | None) -> str:
    return "nothing known" if value is None else f"{_rounded(value, 4, ROUND_CEILING):.4g}"


def _rounded(value: float, digits: int, rounding: str) -> float:
    return float(Context(prec=digits, rounding=rounding).create_decimal(repr(value)))
