"""The proof stage: what a finished run claims of all images between its vertices."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from patchcollide.errors import InterruptedWorkError, RunError
from patchcollide.evaluation.aimed import AimedSamples, sample_aimed
from patchcollide.evaluation.evaluate import Collision
from patchcollide.evaluation.samples import load_samples
from patchcollide.images.pictures import read_png, write_png
from patchcollide.io.files import write_json
from patchcollide.io.provenance import array_digest
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.progress import stop_requests
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.hulls import Claim, Prover, counterexample_picture
from patchcollide.proofs.knowledge import Knowledge
from patchcollide.proofs.results import HullProof
from patchcollide.runs.claims import claims_of
from patchcollide.runs.folder import SAMPLES_FILE, SUMMARY_FILE, Run, open_run
from patchcollide.runs.networks import network_of
from patchcollide.runs.report import write_report
from patchcollide.runs.summary import read_run_target, read_summary
from patchcollide.runs.vertices import load_vertex_pngs, load_vertices
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)


@proof_modes()
def prove(folder: Path, claim: Claim) -> HullProof:
    """Proves what can be proved of a run's hull, adds it to the summary and draws the page again.

    What is left open is kept beside it, so that the same command goes on from there.

    Args:
        folder: The run's folder.
        claim: What is to be proved; without a bound on features the one the run was made with, if
            it was with one. The seed is the run's.

    Returns:
        What ``summary.json`` now holds of it.

    Raises:
        RunError: If the folder holds no finished run, its network has other weights now, or its
            vertices are not those measured.
        NetworkError: If the network cannot be had, or a part of it has no bounds.
        InterruptedWorkError: If the user asked to stop; what is known is kept.
    """
    run = open_run(folder)
    gamma = claim.gamma or run.config.objective.tightness or None
    claim = replace(claim, gamma=gamma, seed=run.config.seed)
    network = network_of(run)
    vertices, summary = load_vertex_pngs(run), read_summary(run)
    claims = claims_of(run, summary, vertices)
    target = read_run_target(run, network)
    bounds = HullBounds.of(network, vertices, target, rounding=claim.rounding)
    kind = "rounded" if claim.rounding else "hull"
    path, digest = run / f"proof-{kind}.h5", f"{run.fingerprint} {array_digest(vertices)}"
    prover = Prover(bounds, claim, _known_before(path, digest))
    with stop_requests() as request:
        try:
            proof = prover.run(request)
        except InterruptedWorkError as error:
            prover.known.save(path, digest)
            raise InterruptedWorkError(
                f"Stopped. What is proved so far is kept in {path}: run the same command "
                "again to go on."
            ) from error
    if proof["result"] == "open":
        prover.known.save(path, digest)
    else:
        path.unlink(missing_ok=True)
    if proof["counterexample"]:
        picture = counterexample_picture(bounds, proof["counterexample"])
        write_png(run / f"counterexample-{kind}.png", picture)
    claims["proofs"] = {**claims.get("proofs", {}), kind: proof}
    if (run / SAMPLES_FILE).exists():
        claims["aimed"] = _sample_aimed(run, network, target, proof, claim)
    write_json(run / SUMMARY_FILE, summary)
    write_report(run)
    return proof


def _sample_aimed(
    run: Run, network: CollisionNetwork, target: Target, proof: HullProof, claim: Claim
) -> AimedSamples | None:
    """Draws samples where a failure is likely, beside those that the run was measured by."""
    vertices, (unrounded, _) = load_vertex_pngs(run), load_vertices(run)
    uniform = load_samples(run / SAMPLES_FILE, array_digest(vertices))["hull"]
    source, settings = read_png(run / "source.png"), run.config.evaluation
    collision = Collision(network, source, target, vertices, unrounded)
    worst = np.asarray(proof["margin"]["weights"])
    return sample_aimed(collision, uniform, worst, settings, claim.seed, claim.seconds)


def prove_once(folder: Path) -> None:
    """Proves a run's hull if nothing was said of it yet; arguments and errors as of :func:`prove`.

    The run was made to be proved, so what is left open is a warning.
    """
    claims = read_summary(open_run(folder)).get("certificate")
    if claims is None or "hull" not in claims.get("proofs", {}):
        proof = prove(folder, Claim())
        if proof["result"] != "proved":
            logger.warning(proof["sentence"])


def _known_before(path: Path, digest: str) -> Knowledge:
    """Returns what was left open before, of the same vertices; else nothing."""
    if not path.exists():
        return Knowledge()
    try:
        known = Knowledge.load(path, digest)
    except RunError as error:
        logger.warning("%s The proof begins anew.", error)
        return Knowledge()
    logger.info("Going on with what was proved before, in %s.", path)
    return known
