"""What runs on a GPU, held against the processor; `pytest -m gpu` where there is one."""

import numpy as np
import pytest
import torch

from patchcollide import find_polytope, pipeline
from patchcollide.config import Config, Network
from patchcollide.config_files import load_config
from patchcollide.evaluation.evaluate import Collision, evaluate_polytope
from patchcollide.networks.loading import load_network
from patchcollide.networks.targets import Target
from patchcollide.optimisation.objective import HullObjective
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from patchcollide.randomness import seeded
from patchcollide.retrieval.engines import open_searcher
from patchcollide.store import faiss_library
from patchcollide.store.index_builder import build_index
from patchcollide.store.integer_products import inner_products
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.helpers.presence import present

pytestmark = pytest.mark.gpu

SETTINGS = ["optimiser.num_vertices=2", "objective.hull_samples=2", "evaluation.num_samples=16"]


def pictures(size):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, size // 32, size // 32, 3), dtype=np.uint8)
    return coarse.repeat(32, axis=1).repeat(32, axis=2)


def first_step(device, precision="float32"):
    config: Config = load_config(overrides=SETTINGS)
    network = load_network(Network(device=device, precision=precision))
    source, target = pictures(network.input_size)
    task = make_task(config, network, Target.of_picture(network, target))
    parameterisation = make_parameterisation(config, network, source, None)
    row = HullObjective(task).backward(parameterisation, 0, seeded(0))
    return row, present(parameterisation.parameter.grad).cpu()


def test_a_step_on_a_gpu_has_the_gradient_of_the_processor():
    expected, gradient = first_step("cpu")
    found, on_gpu = first_step("cuda")
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-2)
    cosine = torch.nn.functional.cosine_similarity(gradient.ravel(), on_gpu.ravel(), dim=0)
    assert cosine > 0.99


def test_a_step_in_half_precision_on_a_gpu_has_the_loss_of_the_processor_in_half_precision():
    # Of such pictures either is a third off the loss in single precision, and gradients part.
    expected, _ = first_step("cpu", "bfloat16")
    found, on_gpu = first_step("cuda", "bfloat16")
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.1)
    assert torch.isfinite(on_gpu).all()


def test_an_evaluation_on_a_gpu_has_the_numbers_of_the_processor():
    measured = []
    for device in ("cpu", "cuda"):
        network = load_network(Network(device=device))
        source, target = pictures(network.input_size)
        vertices = np.stack([target, source])
        collision = Collision(
            network,
            source,
            Target.of_picture(network, target),
            vertices,
            unrounded=vertices.astype(np.float32),
        )
        settings = load_config(overrides=SETTINGS).evaluation
        measured.append(evaluate_polytope(collision, settings, seed=0).figures)
    expected, found = measured
    assert found["target_class"] == expected["target_class"]
    for name in ("success_rate", "sample_probability_mean", "vertex_distance_mean"):
        assert found[name] == pytest.approx(expected[name], rel=1e-2)


# Windows of these begin and end between blocks of four pixels, SMALL's of two, others of none.
BLOCKS = ["images.size_px=48", "patches.window_px=16", "patches.patch_px=16"]
BLOCKS += ["patches.stride_px=8", "retrieval.query_stride_px=8", "index.components=4"]
NO_BLOCKS = ["patches.stride_px=3", "retrieval.query_stride_px=3"]


@pytest.mark.parametrize("shape", [(512, 96, 3072), (7, 3, 192), (289, 5, 1), (1, 1, 12_288)])
def test_products_on_a_gpu_are_those_in_64_bits(shape):
    num_rows, num_filters, length = shape
    rng = np.random.default_rng(0)
    rows, filters = (
        rng.integers(-128, 128, (count, length), dtype=np.int8) for count in (num_rows, num_filters)
    )
    found = inner_products(torch.from_numpy(rows).to("cuda"), torch.from_numpy(filters).to("cuda"))
    expected = rows.astype(np.int64) @ filters.astype(np.int64).T
    np.testing.assert_array_equal(found.cpu().numpy(), expected)


@pytest.mark.parametrize("geometry", [NO_BLOCKS, [], BLOCKS], ids=["pixels", "two", "four"])
@pytest.mark.parametrize("engine", ["exact", "certified"])
def test_a_pass_on_a_gpu_finds_what_the_processor_finds(engine, geometry, write_images, tmp_path):
    settings = [*SMALL, *geometry]
    store = PatchStore.open(
        pipeline.index(load_config(overrides=settings), write_images(num=20), tmp_path / "store")
    )
    found = []
    for name, device in (("exact", "cpu"), (engine, "cuda")):
        chosen = [f"retrieval.engine={name}", f"retrieval.device={device}"]
        searcher = open_searcher(load_config(overrides=[*settings, *chosen]), store)
        queries = store.patches(np.arange(0, store.grid.num_positions, 3))
        found.append(searcher.search(queries, 7, np.array([0])))
    np.testing.assert_array_equal(found[1].ids, found[0].ids)
    np.testing.assert_array_equal(found[1].squared_distances, found[0].squared_distances)
    assert found[1].proven.all()


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-pq"])
def test_an_index_built_on_a_gpu_finds_what_is_near(kind, write_images, tmp_path):
    if not faiss_library.num_gpus():
        pytest.skip("the installed FAISS has no GPUs")
    config = load_config(overrides=[*SMALL, f"index.kind={kind}", "index.components=8"])
    store = write_store(config, write_images(num=210), tmp_path / "store")
    build_index(store, config.index, seed=0)
    queries = store.patches(np.arange(0, 2000, 41))
    none = np.empty(0, np.int64)
    found = open_searcher(config, store).search(queries, 1, none)
    assert (found.squared_distances[:, 0] == 0).mean() > 0.9


@pytest.mark.parametrize("tightness", [0.0, 0.5])
def test_a_collision_found_on_a_gpu_is_measured_alike_on_the_processor(tightness):
    network = load_network(Network(device="cuda"))
    source, target = pictures(network.input_size)
    settings = [*SETTINGS, "optimiser.steps=5", f"objective.tightness={tightness}"]
    settings += ["network.device=cuda", "network.min_confidence=0", "network.layer="]
    found = find_polytope("efficientnet_lite0", "", source, target, settings=settings)
    assert np.isfinite([row["loss"] for row in found.history]).all()
    rates = []
    for device in ("cpu", "cuda"):
        own = load_network(Network(device=device))
        aim = Target.of_picture(own, target)
        collision = Collision(own, source, aim, found.vertices, unrounded=found.unrounded)
        figures = evaluate_polytope(collision, load_config(overrides=SETTINGS).evaluation, seed=0)
        rates.append(figures.figures["sample_class_probability_mean"])
    assert rates[1] == pytest.approx(rates[0], abs=1e-2)
