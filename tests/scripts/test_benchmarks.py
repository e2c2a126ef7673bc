"""The benchmarks, run as people run them, on a store of a moment."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from patchcollide.config_files import load_config
from patchcollide.errors import InputError
from patchcollide.formats import format_seconds, format_size
from patchcollide.images.pictures import read_pixels
from patchcollide.io.files import read_json
from patchcollide.report.charts import write_growth_chart
from patchcollide.retrieval.planning import planner
from patchcollide.runs import collide
from patchcollide.store.index_builder import build_index
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.helpers.presence import present
from tests.retrieval.planning.test_planner import RATES

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
# FAISS takes seconds to train as many quantisers as there are components.
SETTINGS = [*SMALL, "index.components=1", "store.images_per_shard=4"]


def run_script(name, *words):
    """Runs a script as people do; returns what it prints."""
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script within this process, which saves the seconds that libraries take to load."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr("patchcollide.progress.show", lambda _: None)

    def run_here(name, *words):
        script = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        script.finish(script.main)
        return json.loads(capsys.readouterr().out)

    return run_here


def leaves(value):
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [value]


def assert_knows_its_machine(document):
    machine = document["machine"]
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 1e8
    assert {"torch", "faiss-cpu", "patchcollide"} <= machine["versions"].keys()
    assert "gpu" in machine
    assert_can_be_taken_over(document)


def assert_can_be_taken_over(document):
    """Checks what `scripts/results.py` makes a page of."""
    # Scripts find each other in their folder.
    place = importlib.util.spec_from_file_location("results", SCRIPTS / "results.py")
    results = importlib.util.module_from_spec(present(place))
    present(present(place).loader).exec_module(results)
    content = results.content_of(document)
    assert content["measured"]["Command"].startswith("`python ")
    tables = [results.table_lines(table) for table in content["tables"]]
    assert all(len(lines) > 2 for lines in tables)
    # What is printed as a table is one, and is there when something was compared.
    assert sum(map(len, tables)) == len([line for line in document.get("table", []) if "|" in line])


@pytest.fixture
def store(write_images, tmp_path):
    config = load_config(overrides=SETTINGS)
    store = write_store(config, write_images(num=12), tmp_path / "store")
    build_index(store, config.index, seed=0)
    return store


def test_searches_are_measured_beside_each_other(store, tmp_path, run):
    chart = tmp_path / "growth.png"
    words = ["--queries", 5, "--k", 3, "--repeat", 2, "--source", 7, "--plot", chart]
    words += ["--peers", "matrix,flat,ivfpq,hnsw,sklearn"]
    document = run("bench_search", store.path, *words)
    assert_knows_its_machine(document)
    assert document["arguments"]["k"] == 3
    (result,) = document["results"]
    assert (result["num_patches"], result["num_queries"]) == (store.num_patches, 5)
    assert result["engines"].keys() == {"exact", "certified", "ann"}
    peers = {"matrix", "flat", "ivfpq", "hnsw 64", "hnsw 256", "sklearn"}
    assert result["peers"].keys() == peers
    for engine in ("exact", "certified"):
        assert result["engines"][engine]["recall"] == 1
        assert result["engines"][engine]["same_as_exact"]
        assert result["engines"][engine]["certified"] == 1
    for contestant in (*result["engines"].values(), *result["peers"].values()):
        assert 0 <= contestant["recall"] <= 1
        seconds = contestant["seconds"]
        assert 0 < seconds["best"] <= seconds["median"] <= max(seconds["all"])
        assert contestant["memory"]["search"]["peak_anonymous_bytes"] > 1e6
        assert contestant["recalls"] == [contestant["recall"]]
    # Engines search once more beside each peer.
    engine, peer = result["engines"]["ann"], result["peers"]["flat"]
    assert [len(each["seconds"]["all"]) for each in (engine, peer)] == [2 + 5, 2]
    sizes = {name: found["bytes"] for name, found in result["engines"].items()}
    assert 12 * 32 * 32 * 3 < sizes["exact"] < sizes["certified"] == sizes["ann"]
    assert result["peers"]["flat"]["recall"] == 1
    assert result["peers"]["ivfpq"]["build_seconds"] > 0
    assert len(leaves(result["ratios"])) == 6 * 3 * 2
    assert min(leaves(result["ratios"])) > 0
    assert read_pixels(chart).std() > 1


def test_of_several_sources_the_worst_recall_counts(store, run):
    words = ["--sources", 3, "--source", 7, "--queries", 5, "--k", 3, "--repeat", 1]
    document = run("bench_search", store.path, *words, "--engines", "ann", "--peers", "ivfpq")
    (result,) = document["results"]
    assert result["sources"] == [7, 11, 3]
    for contestant in (result["engines"]["ann"], result["peers"]["ivfpq"]):
        assert len(contestant["recalls"]) == 3
        assert contestant["recall"] == min(contestant["recalls"])
        assert contestant["recall_mean"] == pytest.approx(np.mean(contestant["recalls"]))
    assert "recall@3, the worst of 3 sources" in document["table"][0]


def test_recall_may_be_measured_against_the_certified_engine(store, run):
    words = ["--queries", 5, "--k", 3, "--repeat", 1, "--peers", "", "--engines", "certified,ann"]
    recalls = []
    for name in ("exact", "certified"):
        document = run("bench_search", store.path, *words, "--reference", name)
        recalls.append(document["results"][0]["engines"]["ann"]["recalls"])
    assert recalls[0] == recalls[1]


LIBRARIES = {
    "hnswlib": "hnswlib",
    "usearch": "usearch",
    "nndescent": "pynndescent",
    "scann": "scann",
    "svs": "scalable-vs",
    "leanvec": "scalable-vs",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_peers_whose_library_is_absent_are_left_out(name, store, run, monkeypatch):
    module = importlib.import_module("bench_peers").make_peers("cpu", 1)[name].module
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    words = ["--engines", "exact", "--peers", f"matrix,{name}", "--queries", 1, "--repeat", 1]
    document = run("bench_search", store.path, *words)
    (result,) = document["results"]
    assert result["peers"].keys() == {"matrix"}
    assert f"`pip install {LIBRARIES[name]}`" in result["skipped"][name]
    assert document["table"][-1].startswith(f"| `{name}` | not measured: cannot be loaded")


@pytest.mark.parametrize("name", LIBRARIES)
def test_peers_of_other_libraries_find_what_is_near(name, store, run):
    pytest.importorskip(importlib.import_module("bench_peers").make_peers("cpu", 1)[name].module)
    words = ["--engines", "exact", "--peers", name, "--queries", 5, "--k", 3, "--repeat", 1]
    (result,) = run("bench_search", store.path, *words)["results"]
    assert len(result["peers"]) == 2
    for found in result["peers"].values():
        assert found["recall"] > 0.8
        assert found["bytes"] >= 0


def test_a_peer_may_find_candidates_by_components(store, run):
    words = ["--engines", "ann", "--peers", "hnsw-pca", "--queries", 5, "--k", 3, "--repeat", 1]
    words += ["--set", "index.components=1"]
    (result,) = run("bench_search", store.path, *words)["results"]
    assert result["peers"].keys() == {"hnsw-pca 100", "hnsw-pca 300"}
    few, many = (result["peers"][f"hnsw-pca {number}"]["recall"] for number in (100, 300))
    # One component tells few patches apart: whole numbers do, of those that are candidates.
    assert 0.1 < few <= many
    assert result["peers"]["hnsw-pca 300"]["about"].startswith("1 components, FAISS HNSW32,Flat")


def test_the_approximate_engine_may_have_several_numbers_of_candidates(store, run):
    words = ["--engines", "exact,ann", "--candidates", 3, 500, "--peers", "", "--queries", 5]
    (result,) = run("bench_search", store.path, *words, "--k", 3, "--repeat", 1)["results"]
    assert list(result["engines"]) == ["exact", "ann 3", "ann 500"]
    recalls = [result["engines"][f"ann {number}"]["recall"] for number in (3, 500)]
    assert recalls[0] < recalls[1]


def test_a_peer_that_builds_for_too_long_is_stopped(store, run):
    words = ["--engines", "ann", "--peers", "flat,matrix", "--queries", 1, "--repeat", 1]
    (result,) = run("bench_search", store.path, *words, "--longest", 0)["results"]
    assert result["peers"].keys() == {"matrix"}  # it builds nothing
    assert result["skipped"]["flat"] == "stopped: 0 % of the patches after 0 minutes of building"


def test_several_stores_are_measured_and_engines_and_peers_chosen(store, run):
    words = ["--growth", store.path, "--engines", "certified", "--peers", "matrix"]
    document = run("bench_search", store.path, *words, "--repeat", 1, "--k", 600)
    assert len(document["results"]) == 2
    heads = [n for n, line in enumerate(document["table"]) if line.startswith("| patches |")]
    growth = document["table"][heads[0] :]
    assert growth[0].split(" | ")[1:] == [
        "`certified`, s",
        "`matrix`, s",
        "`certified`, own memory (planned) |",
    ]
    assert [line.split(" | ")[0] for line in growth[2:]] == [f"| {store.num_patches:,}"] * 2
    for result in document["results"]:
        assert result["engines"].keys() == {"certified"}
        assert result["ratios"].keys() == {"matrix"}
        # There are fewer than 600 patches outside the source's own image.
        assert result["engines"]["certified"]["recall"] == 1
        assert result["peers"]["matrix"]["recall"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", 12], "StoreError: .* no readable one with number 12. Choose another --sou"),
        (
            ["--sources", 12],
            "StoreError: .* holds 12 readable .*, too few .* Give fewer --so",
        ),
        (["--plot", "a.svg"], "InputError: --plot a.svg should be a PNG file"),
        (["--engines", "fast"], "unknown: fast; known are .*certified"),
        (["--k", 0], "expected at least 1, found 0"),
    ],
)
def test_a_search_that_cannot_be_measured_says_why(words, message, store, run, capsys):
    with pytest.raises(SystemExit) as stop:
        run("bench_search", store.path, *words)
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_peers_that_do_not_fit_are_left_out(store, run, monkeypatch):
    contest, graphs = map(importlib.import_module, ("bench_contest", "bench_graphs"))
    monkeypatch.setattr(contest, "available_bytes", lambda: 3 * 539 * 192 * 2)
    monkeypatch.setattr(graphs, "_MOST_GRAPH_VALUES", 500 * 192)
    words = ["--engines", "ann", "--peers", "flat,hnsw,sklearn", "--queries", 1]
    (result,) = run("bench_search", store.path, *words, "--repeat", 1)["results"]
    assert result["peers"].keys() == {"sklearn"}
    assert "needs 0.000828 GB of memory, 0.000621 GB are avail" in result["skipped"]["flat"]
    assert result["skipped"].keys() == {"flat", "hnsw"}


def test_indexing_is_measured_stage_by_stage_and_goes_on(write_images, tmp_path, run, capsys):
    out = tmp_path / "bench"
    words = [write_images(num=12), "--out", out, "--images", 10, "--sample", 8, "--repeat", 1]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    document = run("bench_index", *words)
    assert_knows_its_machine(document)
    kept = read_json(out / "bench.json", error=InputError)
    assert kept.items() <= document.items()
    results = document["results"]
    assert (results["store"]["num_images"], results["store"]["num_patches"]) == (10, 490)
    assert results["store"]["images_per_second"] > 0
    assert results["store"]["bytes"] > 10 * 32 * 32 * 3
    assert not any(stage["resumed"] for stage in results.values())
    stages = results["index"]["stages"]
    assert stages.keys() == {"basis", "training", "filling", "merging"}
    told_apart = sum(stage["seconds"] for stage in stages.values())
    assert told_apart == pytest.approx(results["index"]["seconds"], rel=1e-6)
    # A stage that is over between two looks at it has no peak.
    assert max(stage["peak_anonymous_bytes"] for stage in stages.values()) > 1e6
    assert results["sample"]["num_images"] == 8
    assert len(leaves(results["sample"]["ratios"])) == 4 * 2
    assert min(leaves(results["sample"]["ratios"])) > 0

    del kept["results"]["index"]
    (out / "bench.json").write_text(json.dumps(kept))
    again = run("bench_index", *words)
    assert again["results"]["index"]["resumed"]
    assert again["results"]["store"] == results["store"]
    with pytest.raises(SystemExit, match="2"):
        run("bench_index", *words, "--set", "seed=3")
    assert "holds a benchmark with other arguments" in capsys.readouterr().err


def test_moments_are_counted_to_the_stage_that_goes_on(store, run):
    watch = importlib.import_module("bench_index").IndexWatch(store)
    work = store.path / "index.partial"
    work.mkdir()
    (store.path / "index.json").unlink()
    watch(1, 100)
    for seconds, name in ((2, "basis.whole.h5"), (4, "begun.whole.faiss")):
        (work / name).touch()
        watch(seconds, 100 * seconds)
    for number in range(3):
        (work / f"part-{number}.whole.faiss").touch()
        watch(8, 300 - number)
    found = {name: tuple(stage.values()) for name, stage in watch.stages.items()}
    expected = {"basis": (1, 100), "training": (2, 200), "filling": (20, 400), "merging": (8, 298)}
    assert found == expected


def test_growth_is_drawn_on_logarithmic_axes(tmp_path):
    sizes = [10**4, 10**5, 10**6]
    series = {
        f"search {n}": [(size, n * size / 1e6, n * 10**9) for size in sizes] for n in range(1, 8)
    }
    write_growth_chart(tmp_path / "a.png", series)
    write_growth_chart(tmp_path / "b.png", series)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = read_pixels(tmp_path / "a.png").astype(np.int64)
    assert min(picture.shape[:2]) > 400
    # The first series is blue; on logarithmic axes it is a straight line, that of memory level.
    rows, cols = np.nonzero(np.abs(picture - [0x00, 0x72, 0xB2]).sum(axis=2) < 30)
    left = cols < picture.shape[1] / 2
    inside = rows < 0.7 * len(picture)
    assert np.corrcoef(rows[inside & left], cols[inside & left])[0, 1] < -0.9
    assert np.unique(rows[~left], return_counts=True)[1].max() > 0.2 * picture.shape[1]


@pytest.mark.parametrize("series", [{}, {"exact": [(289, 0.5, 10**9)]}])
def test_little_growth_is_drawn_too(series, tmp_path):
    write_growth_chart(tmp_path / "a.png", series)
    assert read_pixels(tmp_path / "a.png").std() > 1


def test_compositions_are_measured_beside_the_network(run):
    """On few locations, beside the smallest network."""
    small = ["images.size_px=64", "patches.stride_px=32", "retrieval.query_stride_px=32"]
    small += ["network.name=efficientnet_lite0", "network.layer=", "optimiser.num_vertices=1"]
    words = [word for override in small for word in ("--set", override)]
    found = run("bench_composition", "--repeat", 1, "--threads", 1, *words)
    assert_knows_its_machine(found)
    assert found["parameters"] == 4 * 10 * 32 * 32
    assert found["seconds"].keys() == {"composition", "roughness", "network"}
    for name in ("composition", "roughness"):
        share = found["seconds"][name]["best"] / found["seconds"]["network"]["best"]
        assert found["share_of_network"][name]["best"] == pytest.approx(share)


def test_costs_are_those_that_a_plan_says(run, write_images, monkeypatch):
    monkeypatch.setattr(planner, "measure_rates", lambda *_, **__: RATES)
    found = run("bench_costs", write_images(num=2), "--images", 100, 128_066)
    assert_knows_its_machine(found)
    assert [made["num_images"] for made in found["plans"]] == [100, 128_066]
    stages = found["plans"][1]["stages"]
    largest = max(stages, key=lambda name: stages[name]["peak_bytes"])
    cells = [cell.strip() for cell in found["table"][3].strip("|").split("|")]
    assert cells[:2] == ["128,066", "37 million"]
    assert cells[5] == f"{format_size(stages[largest]['peak_bytes'])} ({largest})"
    assert cells[-1] == format_seconds(found["plans"][1]["engines"]["ann"]["seconds"])


@pytest.fixture
def small_descent(run, small_network, monkeypatch):
    """Runs a benchmark of the descent on a small network instead of a real one."""

    def run_small(name, *words):
        script = importlib.import_module(name)
        for module in (script, importlib.import_module("bench_collide"), collide):
            if hasattr(module, "load_network"):
                monkeypatch.setattr(module, "load_network", lambda *_: small_network)
        # Benchmarks take numbers from runs and leave their pages, which take longest, alone.
        monkeypatch.setattr(collide, "write_report", lambda run: (run / "report.html").touch())
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        return run(name, *words, *settings)

    return run_small


@pytest.mark.parametrize("kind", ["patches", "pixels"])
def test_a_race_has_one_start_and_stops_the_slow_one(kind, small_descent, store, write_images):
    images = write_images("others", num=2, seed=8)
    words = ["--source", images / "class-0/0.png", "--target", images / "class-1/1.png"]
    words += ["--store", store.path] if kind == "patches" else []
    words += ["--factor", 2, "--trial-steps", 2, "--rates", 1e-9, 1e-5, 1e6]
    document = small_descent("bench_collide", "race", *words)
    assert_knows_its_machine(document)
    ours, lbfgs, authors = document["runs"]
    assert [run["method"] for run in document["runs"]] == ["ours", "lbfgs", "authors"]
    assert authors["steps"] <= 2 * ours["steps"]
    assert lbfgs["steps"] >= 1
    assert document["steps_ratio_at_least"] == authors["steps"] / ours["steps"]
    tried = document["authors_rates_tried"]
    assert [trial["rate"] for trial in tried] == [1e-9, 1e-5, 1e6]
    for run in document["runs"]:
        assert run["reached"] == (run["success_rate"] == 1 and run["probability_share"] >= 0.95)


def test_features_are_raced_to_a_bound_from_one_start(small_descent, write_images):
    images = write_images("others", num=2, seed=8)
    words = ["--source", images / "class-0/0.png", "--target", images / "class-1/1.png"]
    words += ["--factor", 2, "--trial-steps", 2, "--rates", 1e-9, 1e-5, "--tightness", 0.5]
    document = small_descent("bench_collide", "features", *words)
    assert_can_be_taken_over(document)
    ours, whole, authors = document["runs"]
    assert ours["steps"] <= whole["steps"]
    assert authors["steps"] <= 2 * ours["steps"]
    assert document["steps_ratio_at_least"] == authors["steps"] / ours["steps"]
    for run, line in zip(document["runs"], document["table"][2:], strict=True):
        near = "yes" if run["tau_max"] <= 0.5 else "no"
        assert line.startswith(f"| {run['method']} | {near} | {run['steps']} |")
        assert run["tau_max_least"] <= run["tau_max"]


def test_steps_of_the_descent_take_turns(small_descent, store, write_images):
    images = write_images("others", num=2, seed=8)
    words = ["--source", images / "class-0/0.png", "--target", images / "class-1/1.png"]
    variants = ["objective.hull_samples=5", "objective.hull_samples=0"]
    words += ["--networks", "mlp", "lenet5", "--variants", *variants]
    document = small_descent("bench_step", *words, "--repeat", 2, "--samples", 3)
    assert_can_be_taken_over(document)
    rows = document["rows"]
    assert [row["network"] for row in rows] == ["mlp", "mlp", "lenet5", "lenet5"]
    for row, variant, num_images in zip(rows, 2 * variants, 2 * [10, 5], strict=True):
        assert (row["variant"], row["images_per_step"]) == (variant, num_images)
        assert len(row["step_s"]["all"]) == 2
        assert row["parameters"] == 5 * 3 * 32 * 32
        assert len(row["evaluation_s"]["all"]) == 2
        assert row["features_differ_by"] == 0
        assert row["peak_anonymous_bytes"] > 0
    best = [row["step_s"]["best"] for row in rows]
    ratios = [line.split("|")[5].strip() for line in document["table"][2:]]
    assert ratios == [f"{best[n] / best[n - n % 2]:.2f}" for n in range(4)]


def test_pairs_are_the_surest_photographs_of_different_classes(
    small_descent, small_network, write_images, tmp_path
):
    images = write_images(num=7)
    words = [images, "--out", tmp_path / "pairs", "--pairs", 2, "--engines", "ann", "exact"]
    document = small_descent("bench_pairs", *words)
    assert_can_be_taken_over(document)
    results = document["results"]
    assert list(results) == ["patches, ann", "patches, exact", "pixels"]
    for result in results.values():
        assert len(result["runs"]) == 2
        for run in result["runs"]:
            source, target = (run[name].split(", ") for name in ("source", "target"))
            assert source[1] != target[1]
            expected = run["vertex_distance_mean"] / document["dataset_distance_mean"]
            assert run["distance_share"] == expected
        for name in ("success_rate", "probability_share", "distance_share"):
            assert result["worst"][f"{name}_min"] == min(run[name] for run in result["runs"])
    assert small_descent("bench_pairs", *words)["results"] == results  # nothing is made again
