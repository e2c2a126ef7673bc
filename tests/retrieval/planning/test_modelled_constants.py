"""A plan models what the engines do: it follows their block sizes, and FAISS's own numbers."""

import pytest

from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.retrieval import block_bounds, candidates, exhaustive, scan, shared_images
from patchcollide.retrieval.planning.footprint import Workload, engine_bytes, stage_bytes
from patchcollide.store import descriptors, faiss_library, index_builder

faiss = pytest.importorskip("faiss")


def modelled():
    """What a plan says of memory, for a store of the paper's size."""
    work = Workload(Config(), 128_066, cores=2)
    return {
        **stage_bytes(work),
        **engine_bytes(work, 289),
        "begun": work.begun_bytes,
    }


@pytest.mark.parametrize(
    ("module", "name", "follows"),
    [
        (scan, "IMAGES_AT_ONCE", "exact"),
        (exhaustive, "IMAGES_AT_ONCE", "exact"),
        (block_bounds, "IMAGES_AT_ONCE", "certified"),
        (exhaustive, "SAMPLED_IMAGES", "exact"),
        (candidates, "PAIRS_AT_ONCE", "ann"),
        (candidates, "QUERIES_AT_ONCE", "ann"),
        (shared_images, "IMAGES_AT_ONCE", "ann"),
        (descriptors, "IMAGES_AT_ONCE", "filling"),
        (index_builder, "IMAGES_AT_ONCE", "filling"),
        (index_builder, "PATCHES_AT_ONCE", "training"),
        (index_builder, "GRAPH_DEGREE", "begun"),
        (index_builder, "CODE_BYTES", "filling"),
        (faiss_library, "CODEWORDS", "begun"),
    ],
)
def test_a_plan_follows_what_it_models(module, name, follows, monkeypatch):
    before = modelled()[follows]
    # Much larger, so that no other need hides it.
    factor = 2 if name == "CODE_BYTES" else 64
    monkeypatch.setattr(module, name, factor * getattr(module, name))
    assert modelled()[follows] > before


def test_a_plan_follows_how_many_sums_a_thread_reads(monkeypatch):
    # So many that nothing else hides it.
    work = Workload(Config(), 128_066, cores=512)
    before = engine_bytes(work, 289)["certified"]
    monkeypatch.setattr(exhaustive, "SUMS_AT_ONCE", work.shard_images)
    assert engine_bytes(work, 289)["certified"] > before


def test_a_plan_counts_on_the_numbers_that_faiss_has():
    flat = faiss.IndexFlatL2(8)
    lists, codes = faiss.IndexIVFFlat(flat, 8, 4), faiss.ProductQuantizer(8, 4, 8)
    assert lists.cp.niter == faiss_library.LIST_ITERATIONS
    assert lists.cp.max_points_per_centroid == faiss_library.POINTS_PER_CENTRE
    assert (codes.cp.niter, codes.ksub) == (
        faiss_library.CODEWORD_ITERATIONS,
        faiss_library.CODEWORDS,
    )
    assert faiss.cvar.precomputed_table_max_bytes == faiss_library.LARGEST_TABLE


@pytest.mark.parametrize("kind", ["flat", "ivf-flat", "ivf-pq"])
@pytest.mark.parametrize("num_patches", [100, 50_000, 37_011_074])
def test_an_index_has_what_its_name_is_read_as(kind, num_patches):
    config = load_config(overrides=[f"index.kind={kind}"])
    factory = index_builder.index_factory(config.index, num_patches)
    index = faiss.index_factory(config.index.components, factory)
    has_lists = isinstance(index, faiss.IndexIVF)
    assert faiss_library.num_lists(factory) == (index.nlist if has_lists else 0)
    has_codes = isinstance(index, faiss.IndexIVFPQ)
    assert faiss_library.num_quantisers(factory) == (index.pq.M if has_codes else 0)
    quantizer = faiss.downcast_index(index.quantizer) if has_lists else None
    assert faiss_library.has_graph(factory) == isinstance(quantizer, faiss.IndexHNSW)
