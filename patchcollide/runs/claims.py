"""What is added to a run's summary at leisure: other images beside it, and walks on its edges."""

from collections.abc import Sequence

from patchcollide.errors import RunError
from patchcollide.evaluation.claims import compare_with_others, walk_edges
from patchcollide.evaluation.known_changes import ANOTHER
from patchcollide.evaluation.samples import load_samples, save_samples
from patchcollide.evaluation.sampling import sample_null
from patchcollide.evaluation.summary import Claims, Summary
from patchcollide.evaluation.verdicts import yardstick_of_others
from patchcollide.images.tensors import as_batch
from patchcollide.io.files import write_json
from patchcollide.io.provenance import array_digest
from patchcollide.networks.network import CollisionNetwork
from patchcollide.runs.folder import SAMPLES_FILE, SUMMARY_FILE, Run
from patchcollide.runs.summary import read_run_target, read_summary
from patchcollide.runs.vertices import load_vertex_pngs
from patchcollide.shapes import UInt8, ndarray


def add_claims(
    run: Run,
    network: CollisionNetwork,
    images: Sequence[UInt8[ndarray, "side side channels"]],
    *,
    num_pairs: int | None,
    num_edges: int | None,
    max_pieces: int,
) -> Summary:
    """Adds to ``summary.json`` what :func:`write_summary` has no time for.

    Args:
        run: A finished run.
        network: The network it was made with.
        images: Of the data set, to stand beside the polytope; without any, what was measured of
            others is kept.
        num_pairs: At most how many pairs of them; None for all.
        num_edges: How many edges to walk; None for all.
        max_pieces: How many pieces of an edge to walk at most.

    Returns:
        The summary.

    Raises:
        RunError: If the run's vertices are not those measured, or an older version measured them.
        NetworkError: If the network is not piecewise linear.
    """
    summary, vertices = read_summary(run), load_vertex_pngs(run)
    claims = claims_of(run, summary, vertices)
    target, seed = read_run_target(run, network), run.config.seed
    features, hull = target.features(network), claims["hull"]
    others = compare_with_others(network, features, images, hull, seed=seed, num_pairs=num_pairs)
    claims["others"] = others or claims.get("others")
    if "tightness" in summary:
        yardstick = summary["tightness"]["yardstick"]
        yardstick |= yardstick_of_others(claims, claims.get("others"), yardstick.get(ANOTHER))
    if (run / SAMPLES_FILE).exists():
        digest, settings = array_digest(vertices), run.config.evaluation
        samples = load_samples(run / SAMPLES_FILE, digest)
        samples |= sample_null(network, target, images, len(vertices), settings, seed)
        save_samples(run / SAMPLES_FILE, samples, digest)
    # Before the walk, which a network may refuse.
    write_json(run / SUMMARY_FILE, summary)
    images_walked, target_class = as_batch(vertices), summary["target_class"]
    claims["walk"] = walk_edges(
        network, images_walked, target_class, num_edges=num_edges, max_pieces=max_pieces
    )
    write_json(run / SUMMARY_FILE, summary)
    return summary


def claims_of(
    run: Run, summary: Summary, vertices: UInt8[ndarray, "vertices height width channels"]
) -> Claims:
    """Returns the claims of a run, which are to be of its vertices and of this version."""
    claims = summary.get("certificate")
    if claims is None or claims.get("vertices_digest") != array_digest(vertices):
        raise RunError(
            f"{run / SUMMARY_FILE} was not measured on the vertices that are there. Measure the "
            f"run again with `patchcollide evaluate {run.folder}`."
        )
    if "feature_distance_relative" not in claims["hull"]:
        raise RunError(
            f"{run / SUMMARY_FILE} is of an older version, which measured gaps before the "
            f"activation. Measure the run again with `patchcollide evaluate {run.folder}`."
        )
    return claims
