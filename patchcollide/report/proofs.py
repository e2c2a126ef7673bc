"""What was proved of all images between vertices, and the worst that was found, in sentences."""

from collections.abc import Iterator

from patchcollide.evaluation.summary import Summary
from patchcollide.formats import as_gap
from patchcollide.proofs.results import HullProof


def proof_lines(summary: Summary) -> Iterator[str]:
    """Yields what a run's page says of all images between its vertices; of old runs nothing."""
    if worst := summary.get("worst_found"):
        yield (
            f"The worst image between the vertices that gradients on their weights found, from "
            f"{worst['restarts']} restarts, has a margin of {worst['margin']:.4g} logits and a "
            f"probability of {worst['probability']:.4g}; the worst random sample has "
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
    for proof in certificate.get("proofs", {}).values():
        yield f"{proof['sentence']} {_effort(proof)}"


def _effort(proof: HullProof) -> str:
    margin, tau = proof["margin"], proof["tau"]
    text = (
        f"Margin: {margin['cells']} simplices in {margin['seconds']:.2g} s ({margin['method']}); "
        f"features: {tau['cells']} in {tau['seconds']:.2g} s ({tau['method']})."
    )
    return f"{text} {proof['not_mapped']}." if "not_mapped" in proof else text
