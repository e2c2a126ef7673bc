"""What was proved of all images between vertices, and the worst that was found, in sentences."""

from collections.abc import Iterator

from patchcollide.evaluation.aimed import AimedSamples
from patchcollide.evaluation.summary import Summary
from patchcollide.formats import as_gap
from patchcollide.proofs.results import HullProof


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
            f"distance of features: it is proved to be at most {as_gap(tau)} everywhere between "
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
