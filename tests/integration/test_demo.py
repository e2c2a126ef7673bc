"""What the demo promises, on the real network and real photographs."""

import json
import time

import numpy as np
import pytest

from patchcollide.config_files import load_config
from patchcollide.images.photographs import PHOTOGRAPHS, photograph, write_photographs
from patchcollide.images.pictures import read_image, read_png
from patchcollide.networks.loading import load_network
from patchcollide.pipeline import run_demo
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.runs.replay import replay
from patchcollide.store.index_builder import build_index
from patchcollide.store.writer import write_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("runs") / "demo")


def test_the_demo_collides_surely_and_reaches_far(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["target_class_name"] == "espresso"
    assert summary["success_rate"] >= 0.99
    assert summary["sample_probability_mean"] >= 0.85
    assert summary["vertex_distance_mean"] >= 4000
    assert summary["peak_memory_bytes"] <= 4e9
    assert summary["neighbours"]["excluded_images"] == 50


def test_the_vertices_collide_by_their_png_files_alone(run):
    network = load_network(load_config().network)
    for number in range(5):
        _, name, probability = network.top(read_png(run / f"vertex-{number}.png"))
        assert (name, probability >= 0.8) == ("espresso", True)


def test_a_second_demo_does_nothing_in_seconds(run, caplog):
    # Of a processor: a busy machine does not make it do more.
    started = time.process_time()
    with caplog.at_level("INFO", logger="patchcollide"):
        run_demo(run)
    assert time.process_time() - started < 30
    assert "nothing to do" in caplog.text


def test_the_demo_can_be_made_again_to_the_last_bit(run):
    found = replay(run)
    assert found.identical, found.lines()
    assert not found.notes


def test_the_index_finds_what_the_exact_oracle_finds(tmp_path):
    """2000 images: the kind of index that has lists."""
    write_photographs(tmp_path / "photographs", cuts=117, size=224)
    config = load_config(overrides=["store.fraction=0.997"])
    store = write_store(config, tmp_path / "photographs", tmp_path / "store")
    build_index(store, config.index, seed=0)
    source = read_image(photograph("chelsea"), size=224, fit="crop", max_pixels=10**8)
    queries = np.ascontiguousarray(store.grid.patches(source[None])[0]).reshape(-1, 32, 32, 3)
    # All cuts of the source's own photograph are left out, as in a real retrieval.
    own = np.flatnonzero([name.startswith("chelsea/") for name in store.names])
    found = open_index(store, config.index).search(queries, 10, own)
    truth = ExhaustiveSearcher(store).search(queries, 10, own)
    recalled = found.squared_distances <= truth.squared_distances[:, -1:]
    assert len(PHOTOGRAPHS) * 118 * 0.99 < store.num_images
    assert recalled.mean() >= 0.98
