"""Where no engine is named, a store gets the one that a plan of it advises, and runs say which."""

import logging
import sys
from typing import Any

import numpy as np
import pytest

from patchcollide import find_polytope, pipeline
from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import IndexMismatchError, RetrievalError
from patchcollide.io.files import write_json
from patchcollide.io.hdf5 import open_hdf5
from patchcollide.retrieval import engines
from patchcollide.retrieval.ann import AnnSearcher
from patchcollide.retrieval.engines import open_searcher, with_engine
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.planning.advice import (
    PATIENCE_SECONDS,
    advised_engine,
    proof_seconds,
)
from patchcollide.retrieval.planning.planner import estimate
from patchcollide.runs.folder import CONFIG_FILE, open_run
from patchcollide.runs.replay import replay
from patchcollide.store.index_builder import build_index
from patchcollide.store.index_files import ABOUT_FILE
from tests.conftest import SMALL
from tests.retrieval.planning.test_planner import RATES
from tests.runs.test_replay import FAST, write_pair

AUTO = load_config(overrides=[*SMALL, "retrieval.engine=auto"])
PAPER = 37_011_074
NEIGHBOURS: dict[str, Any] = {
    "encoding": "patchcollide-neighbours",
    "version": "3",
    "error": RetrievalError,
}


@pytest.fixture
def advised(monkeypatch):
    """Has small stores get the advice of others; returns what was asked for."""
    asked = []

    def advise(engine):
        def answer(num_patches, num_queries):
            asked.append((num_patches, num_queries))
            return engine

        monkeypatch.setattr(engines, "advised_engine", answer)
        return asked

    return advise


@pytest.mark.parametrize(
    ("num_patches", "num_queries", "engine"),
    [
        (1, 1, "exact"),
        (100_000, 289, "exact"),
        (2_900_000, 289, "certified"),
        # Of more queries an exact pass takes longer.
        (100_000, 10 * 289, "certified"),
        (PAPER, 289, "certified"),
        (10 * PAPER, 289, "certified"),
        (100 * PAPER, 289, "ann"),
    ],
)
def test_the_engine_advised_is_the_sooner_proof_unless_both_last_too_long(
    num_patches, num_queries, engine
):
    assert advised_engine(num_patches, num_queries) == engine


def test_seconds_that_advice_goes_by_are_those_measured_at_full_scale():
    seconds = proof_seconds(PAPER, 289)
    assert seconds["certified"] == pytest.approx(16.6 + 1, rel=0.03)
    assert seconds["exact"] == pytest.approx(78.9, rel=0.03)
    longest = max(n for n in range(0, 20 * PAPER, PAPER // 10) if advised_engine(n, 289) != "ann")
    assert proof_seconds(longest, 289)["certified"] == pytest.approx(PATIENCE_SECONDS, rel=0.02)


@pytest.mark.parametrize("num_images", [10, 10_000, 128_066, 5_000_000])
@pytest.mark.parametrize("queries", [1, 289, 5000])
def test_what_a_plan_advises_is_what_auto_takes(num_images, queries):
    made = estimate(num_images, RATES, Config(), queries)
    assert made.engine == advised_engine(made.num_patches, queries)
    assert ("would take" in made.engine_reason) == (made.engine == "ann")


def test_a_small_store_is_compared_whole_and_needs_no_index(small_store):
    assert with_engine(AUTO, small_store).retrieval.engine == "exact"
    searcher = open_searcher(AUTO, small_store)
    assert isinstance(searcher, ExhaustiveSearcher)
    assert searcher.basis is None


@pytest.mark.parametrize("engine", ["ann", "certified"])
def test_an_index_is_used_where_it_is_advised(engine, advised, small_store, caplog):
    asked = advised(engine)
    build_index(small_store, AUTO.index, seed=0)
    caplog.set_level(logging.INFO)
    kind = AnnSearcher if engine == "ann" else ExhaustiveSearcher
    assert isinstance(open_searcher(AUTO, small_store), kind)
    assert with_engine(AUTO, small_store, num_sources=3).retrieval.engine == engine
    positions = small_store.grid.num_positions
    assert asked == [(small_store.num_patches, n * positions) for n in (1, 3)]
    assert f"retrieval.engine = auto takes {engine}." in caplog.messages


@pytest.mark.parametrize("engine", ["ann", "certified"])
def test_without_an_index_every_patch_is_compared(engine, advised, small_store, caplog):
    advised(engine)
    caplog.set_level(logging.INFO)
    assert with_engine(AUTO, small_store).retrieval.engine == "exact"
    (told, _) = caplog.records
    assert (told.levelname, "has no index: `patchcollide index`" in told.message) == ("INFO", True)


def test_without_an_index_a_large_store_warns(advised, small_store, monkeypatch, caplog):
    advised("ann")
    monkeypatch.setattr(engines, "PATIENCE_SECONDS", 0)
    assert with_engine(AUTO, small_store).retrieval.engine == "exact"
    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert "To compare every patch takes" in warning.message


def test_without_faiss_every_patch_is_compared(advised, small_store, monkeypatch, caplog):
    build_index(small_store, AUTO.index, seed=0)
    advised("certified")
    monkeypatch.setitem(sys.modules, "faiss", None)
    caplog.set_level(logging.INFO)
    assert with_engine(AUTO, small_store).retrieval.engine == "exact"
    assert "FAISS is not installed" in caplog.messages[0]


def test_a_damaged_index_is_refused_and_not_passed_over(advised, small_store):
    build_index(small_store, AUTO.index, seed=0)
    advised("ann")
    (small_store.path / ABOUT_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(IndexMismatchError, match=r"index\.json cannot be read"):
        open_searcher(AUTO, small_store)


def test_a_named_engine_stays(advised, small_store):
    asked = advised("certified")
    config = load_config(overrides=[*SMALL, "retrieval.engine=exact"])
    assert with_engine(config, small_store) is config
    assert asked == []


@pytest.fixture
def indexed(tmp_path, write_images):
    config = load_config(overrides=[*FAST, "retrieval.engine=auto"])
    store = pipeline.index(config, write_images(), tmp_path / "a-store")
    return config, store, *write_pair(tmp_path)


def test_neighbours_say_which_engine_found_them(indexed, tmp_path):
    config, store, source, _ = indexed
    path = pipeline.retrieve(config, [source], store, tmp_path / "found.h5")
    with open_hdf5(path, **NEIGHBOURS) as file:
        assert file.attribute("settings")["retrieval"]["engine"] == "exact"


def test_a_run_says_which_engine_was_taken_and_is_made_again_by_it(indexed, tmp_path, monkeypatch):
    config, store, source, target = indexed
    folder = pipeline.collide(config, source, target, tmp_path / "run", store)
    run = open_run(folder)
    assert run.config.retrieval.engine == "auto"
    assert run.inputs["engine"] == "exact"
    # As if the store had been searched by another engine.
    about = {**run.about, "inputs": {**run.inputs, "engine": "ann"}}
    write_json(folder / CONFIG_FILE, about)
    opened = []
    monkeypatch.setattr(
        engines, "open_index", lambda store, _: opened.append(store) or ExhaustiveSearcher(store)
    )
    assert replay(folder).identical
    assert len(opened) == 1


def test_a_run_that_names_its_engine_says_nothing_beside(indexed, tmp_path):
    config, store, source, target = indexed
    named = load_config(overrides=FAST)
    run = open_run(pipeline.collide(named, source, target, tmp_path / "named", store))
    assert "engine" not in run.inputs
    auto = open_run(pipeline.collide(config, source, target, tmp_path / "auto", store))
    np.testing.assert_array_equal(
        (run / "vertex-0.png").read_bytes(), (auto / "vertex-0.png").read_bytes()
    )


def test_polytopes_found_in_python_say_which_engine_was_taken(indexed):
    config, store, source, target = indexed
    found = find_polytope("lenet5", "fc1", source, target, store=store, settings=config)
    assert found.about["inputs"]["engine"] == "exact"
