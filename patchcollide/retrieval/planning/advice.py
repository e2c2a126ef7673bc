"""Which engine suits a store: what a plan advises, and ``retrieval.engine = "auto"`` does.

It goes by the number of patches and queries alone, in seconds of one machine that was measured: the
same search takes the same engine on every machine and however busy one is, so that its answers are
the same. What the engines would take here is for a plan to say beside.
"""

from patchcollide.retrieval.planning.durations import Line

PATIENCE_SECONDS = 300.0
"""So long anyone waits for a proof that nothing nearer was missed."""

EXACT = Line(fixed=4.1e-7, per_query=5.96e-9)
"""Two cores: 78.9 s for 37,011,074 patches and 289 queries; ``data/results/search-at-scale.md``."""

CERTIFIED = Line(fixed=3.8e-7, per_query=2.35e-10)
"""The same two cores: 16.6 s."""

# To load FAISS, open the index and have it bound the distances.
_OPENING_SECONDS = 1.0


def proof_seconds(num_patches: int, num_queries: int) -> dict[str, float]:
    """Returns what the engines that prove every answer take, on the machine of the constants."""
    return {
        "certified": _OPENING_SECONDS + CERTIFIED.seconds(num_patches, num_queries),
        "exact": EXACT.seconds(num_patches, num_queries),
    }


def advised_engine(num_patches: int, num_queries: int) -> str:
    """Returns the engine to use where there is an index: the sooner proof, or none if both last.

    Args:
        num_patches: Patches of the store.
        num_queries: Patches that are looked for at once.
    """
    seconds = proof_seconds(num_patches, num_queries)
    sooner = min(seconds, key=lambda name: seconds[name])
    return sooner if seconds[sooner] <= PATIENCE_SECONDS else "ann"
