"""What was proved of all images between vertices, and the worst that was found, in sentences."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from patchcollide.evaluation.aimed import AimedSamples
from patchcollide.evaluation.summary import Summary
from patchcollide.evaluation.verdicts import beside
from patchcollide.formats import as_percent, as_probability
from patchcollide.proofs.results import HullProof

_RANKS = {"refuted": 0, "proved": 1, "open": 2}


@dataclass(frozen=True)
class Known:
    """What is known of all images between vertices, in a line: how, and what."""

    how: str
    what: str


def known_between(summary: Summary) -> Iterator[Known]:
    """Yields what is proved of all images between vertices, and what samples say of them."""
    certificate = summary.get("certificate")
    proofs = certificate.get("proofs", {}).values() if certificate else ()
    tau = certificate.get("tau_at_vertices") if certificate else None
    # What is refuted comes first, then what holds of the images as files hold them.
    best = min(proofs, key=lambda p: (_RANKS[p["result"]], not p["rounding"]), default=None)
    name = summary["target_class_name"]
    if best is not None and best["result"] == "refuted":
        gamma = best["gamma"]
        yield Known(
            "Refuted", f"that {_every(best, name, None if gamma is None else f'{gamma:g}')}"
        )
        best = None
    said = [] if best is None else [_proved(best, name)]
    if tau is not None and not any("features within" in each for each in said):
        said.append(
            f"no features between the vertices, before rounding to 8 bits, are farther than "
            f"tau {_at_most(tau)}, as the layer is affine in the image"
        )
    yield Known("Proved", "; ".join(filter(None, said)) or "nothing")
    yield Known("Sampled", _sampled(summary))


def _every(proof: HullProof, class_name: str, within: str | None) -> str:
    """Returns what is claimed of every image between vertices."""
    features = "" if within is None else f" and its features within {within} of the target's"
    return f"every image between the vertices, {_when(proof)}, is of class {class_name}{features}"


def _when(proof: HullProof) -> str:
    return "rounded to 8 bits in any way" if proof["rounding"] else "before rounding to 8 bits"


def _proved(proof: HullProof, class_name: str) -> str:
    """Returns what of a claim that is not refuted is proved; empty if nothing is."""
    if proof["result"] == "proved":
        # What is proved of features is no farther than what was claimed, if anything was.
        tau = proof["tau"]["proved"]
        return _every(proof, class_name, None if tau is None else _at_most(tau))
    share = _floored(proof["share_proved"])
    if not share:
        return ""
    return f"class {class_name} for {as_percent(share)} of the images between, {_when(proof)}"


def _sampled(summary: Summary) -> str:
    """Returns what random samples say of all images between vertices, and what a search found."""
    low = as_percent(_floored(summary["success_interval"][0]))
    text = f"at least {low} of all images between are of the target's class (95 % confidence)"
    worst = summary.get("worst_found")
    if worst is None:
        return text
    if worst["margin"] <= 0:
        return f"{text}; not so the worst that gradients found"
    chance = as_probability(worst["probability"])
    return f"{text}; so is the worst that gradients found, with probability {chance}"


def _floored(share: float) -> float:
    """Returns a share in tenths of a percent, rounded down: no more is said than is known."""
    return math.floor(1000 * share) / 1000


def _at_most(tau: float) -> str:
    """Returns a distance in two digits, rounded up: it is proved that none is larger."""
    return beside(tau, math.inf)


def proof_lines(summary: Summary) -> Iterator[str]:
    """Yields what a run's page says of all images between its vertices; of old runs nothing."""
    if worst := summary.get("worst_found"):
        rounded = worst.get("rounded")
        yield (
            f"The worst image between the vertices{' before rounding' if rounded else ''} that "
            f"gradients on their weights found, from {worst['restarts']} restarts, has a margin of "
            f"{worst['margin']:.4g} logits and a probability of {worst['probability']:.4g}; "
            + (
                f"the worst found once rounded to 8 bits has {rounded['margin']:.4g} logits and "
                f"{rounded['probability']:.4g}; "
                if rounded
                else ""
            )
            + f"the worst random sample{', rounded too,' if rounded else ''} has "
            f"{worst['sampled_probability']:.4g}."
        )
    if (scale := summary.get("shrunk_to")) is not None:
        yield (
            f"After the descent the hull was shrunk towards its centre to {scale:.3g} of its size, "
            "the largest at which it was proved."
            if scale
            else "After the descent the hull was to be shrunk until it was proved; it could not be "
            "at any size, so it is as it was found."
        )
    certificate = summary.get("certificate")
    if not certificate:
        return
    if (tau := certificate.get("tau_at_vertices")) is not None:
        yield (
            "The layer is affine in the image, so a convex function of the weights bounds the "
            f"distance of features: it is proved to be at most {_at_most(tau)} everywhere between "
            "the vertices, before rounding to 8 bits."
        )
    if aimed := certificate.get("aimed"):
        yield _aimed_line(aimed, summary)
    for proof in certificate.get("proofs", {}).values():
        yield f"{proof['sentence']} {_effort(proof)}"


def _aimed_line(aimed: AimedSamples, summary: Summary) -> str:
    low, high = aimed["outside_interval"]
    uniform_low, uniform_high = (1 - end for end in reversed(summary["success_interval"]))
    where = [
        f"{part['outside']} of {part['num_samples']} {place} (95 % interval of that share: "
        f"{100 * part['interval'][0]:.2g} to {100 * part['interval'][1]:.2g} %)"
        for part, place in (
            (aimed["edges"], "near edges"),
            (aimed["worst"], "near the worst image"),
        )
    ]
    return (
        "Samples where a failure is likely, rounded to 8 bits, that are of another class: "
        f"{where[0]}, {where[1]}. With the uniform samples they put the share of the hull's volume "
        f"of another class at {100 * aimed['outside_share']:.2g} %, within {100 * low:.2g} to "
        f"{100 * high:.2g} %; the uniform ones alone within {100 * uniform_low:.2g} to "
        f"{100 * uniform_high:.2g} % (Wilson). No such interval excludes a single image."
    )


def _effort(proof: HullProof) -> str:
    margin, tau = proof["margin"], proof["tau"]
    text = (
        f"Margin: {margin['cells']} simplices in {margin['seconds']:.2g} s ({margin['method']}); "
        f"features: {tau['cells']} in {tau['seconds']:.2g} s ({tau['method']})."
    )
    return f"{text} {proof['not_mapped']}." if "not_mapped" in proof else text
