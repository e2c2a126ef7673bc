"""What work will cost is known before it starts, and what does not fit never starts."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError, ImageError, StoreError
from patchcollide.images.sources import find_images
from patchcollide.io import system
from patchcollide.retrieval.planning import planner
from patchcollide.retrieval.planning import rates as machine
from patchcollide.retrieval.planning.budgets import memory_budget, require_disk, require_memory
from patchcollide.retrieval.planning.durations import (
    H100,
    Line,
    Rates,
    accelerated_seconds,
    engine_seconds,
    stage_seconds,
)
from patchcollide.retrieval.planning.footprint import (
    ENGINES,
    STAGES,
    Workload,
    engine_bytes,
    stage_bytes,
)
from patchcollide.retrieval.planning.passes import expected_bounds
from patchcollide.retrieval.planning.planner import estimate
from patchcollide.retrieval.planning.rates import measure_rates
from patchcollide.store.index_builder import build_index
from patchcollide.store.index_files import INDEX_FILE
from patchcollide.store.writer import write_store
from tests.conftest import SMALL

PAPER_IMAGES = 128_066
RATES = Rates(
    images=250.0,
    bytes_written=5e8,
    bytes_digested=1e9,
    patches_gathered=1e5,
    described=2e11,
    multiplied=5e10,
    assigned=2e10,
    graphed=2e4,
    linked=1e5,
    coded=5e8,
    looked_up=2e9,
    eigen=2e9,
    exact=Line(fixed=5e-7, per_query=6e-9),
    certified=Line(fixed=8e-7, per_query=1e-9),
)
SETTINGS = [word for override in SMALL for word in ("--set", override)]
Usage = namedtuple("Usage", "total used free")


def paper(**index: object) -> Workload:
    overrides = [f"index.{name}={value}" for name, value in index.items()]
    return Workload(load_config(overrides=overrides), PAPER_IMAGES, cores=2)


def small_workload(num_images: int, **index: object) -> Workload:
    overrides = [f"index.{name}={value}" for name, value in index.items()]
    return Workload(load_config(overrides=[*SMALL, *overrides]), num_images, cores=2)


def test_the_papers_scale_is_as_computed_by_hand():
    work = paper()
    assert work.num_patches == 37_011_074
    assert work.store_bytes == pytest.approx(19.28e9, rel=0.005)
    assert work.num_shards == 63
    assert work.factory == "IVF16384_HNSW32,PQ32"
    # 40 bytes a patch, 264 a list and 280 for its links, 32 times 256 codewords of two values.
    assert work.index_bytes == 37_011_074 * 40 + 16_384 * (264 + 280) + 65_536 == 1_489_421_392
    # Each part begins with the same lists and codewords.
    parts = work.index_bytes + 63 * (16_384 * (264 + 280) + 65_536)
    # Of an image 56 x 56 x 3 sums of 16 bits, 289 norms of 32 bits and a checksum.
    assert work.sums_bytes == pytest.approx(128_066 * (56 * 56 * 3 * 2 + 289 * 4 + 4), rel=1e-3)
    assert work.disk_bytes == work.store_bytes + work.sums_bytes + work.index_bytes + parts
    assert work.table_bytes == 16_384 * 32 * 256 * 4


def test_uncompressed_indexes_are_as_computed_by_hand():
    assert paper(kind="flat").index_bytes == 37_011_074 * 264
    assert paper(kind="ivf-flat").index_bytes == 37_011_074 * 264 + 16_384 * (264 + 280)


def test_the_papers_scale_imagenet_and_a_billion_patches_fit_into_eight_gigabytes():
    imagenet = Workload(Config(), 1_281_167, cores=2)
    assert imagenet.num_patches == 370_257_263
    for work in (paper(), imagenet, Workload(Config(), 3_460_208, cores=2)):
        require_memory(work, 8_000_000_000)


def test_a_flat_index_is_whole_in_memory_and_imagenets_does_not_fit():
    imagenet = Workload(load_config(overrides=["index.kind=flat"]), 1_281_167, cores=2)
    with pytest.raises(ConfigError, match=r"Merging the index of 1281167 images needs"):
        require_memory(imagenet, 8_000_000_000)


def test_lists_are_merged_in_a_fraction_of_what_they_take_on_disk():
    for num_images in (PAPER_IMAGES, 1_281_167, 3_460_208):
        work = Workload(Config(), num_images, cores=2)
        lists = stage_bytes(work)["merging"] - stage_bytes(work)["extraction"]
        assert lists < work.index_bytes / 4


def test_a_billion_patches_take_forty_gigabytes_of_index():
    work = Workload(Config(), 3_460_208)
    assert work.num_patches == 1_000_000_112
    assert work.index_bytes == pytest.approx(40e9, rel=0.001)


@pytest.mark.parametrize("kind", ["flat", "ivf-flat", "ivf-pq"])
def test_predicted_bytes_are_those_of_real_files(kind, write_images, tmp_path):
    # FAISS trains 256 codewords for each quantiser, on 39 patches each at least.
    work = small_workload(205, components=2, kind=kind)
    if kind == "ivf-pq":
        assert work.num_patches > 39 * 256
    store = write_store(work.config, write_images(num=205), tmp_path / "store")
    build_index(store, work.config.index, seed=0)
    found = (tmp_path / "store" / INDEX_FILE).stat().st_size
    assert found == pytest.approx(work.index_bytes, rel=0.05, abs=1024)
    shards = sum(path.stat().st_size for path in (tmp_path / "store").glob("shard-*.h5"))
    assert shards == pytest.approx(work.store_bytes, rel=0.05, abs=65_536)


@settings(deadline=None)
@given(
    images=st.integers(1, 4_000_000),
    more=st.integers(0, 1_000_000),
    kind=st.sampled_from(["flat", "ivf-flat", "ivf-pq"]),
    queries=st.integers(1, 1000),
)
def test_more_images_never_cost_less(images, more, kind, queries):
    config = load_config(overrides=[f"index.kind={kind}"])
    few, many = (Workload(config, count, cores=4) for count in (images, images + more))
    assert few.disk_bytes <= many.disk_bytes
    for name, peak in engine_bytes(few, queries).items():
        assert peak <= engine_bytes(many, queries)[name]
    # Where less than a fiftieth of the patches is drawn, NumPy lists only those.
    drawn = {"basis": config.index.basis_patches, "training": config.index.training_patches}
    for name in STAGES:
        assert stage_bytes(few)[name] <= stage_bytes(many)[name] + 8 * 50 * drawn.get(name, 0)
        # A graph, which only many lists have, saves time.
        if few.has_graph == many.has_graph:
            assert stage_seconds(few, RATES)[name] <= stage_seconds(many, RATES)[name]
    for name in ("exact", "certified"):
        assert engine_seconds(few, RATES, queries)[name] <= (
            engine_seconds(many, RATES, queries)[name] * (1 + 1e-9)
        )


@settings(deadline=None)
@given(count=st.integers(1, 20_000), more=st.integers(0, 20_000), size=st.integers(1, 4096))
def test_smaller_settings_never_need_more_memory(count, more, size):
    def peak(**sizes: int) -> int:
        index = {"basis_patches": sizes["basis"]}
        store = {"images_per_shard": sizes["shard"]}
        config = Config.model_validate({"index": index, "store": store})
        return max(stage_bytes(Workload(config, PAPER_IMAGES, cores=2)).values())

    assert peak(basis=count, shard=size) <= peak(basis=count + more, shard=size + more)


def test_an_estimate_is_a_pure_function_with_every_stage_and_engine():
    made = estimate(PAPER_IMAGES, RATES, Config(), 289)
    assert made == estimate(PAPER_IMAGES, RATES, Config(), 289)
    assert tuple(made.stages) == STAGES
    assert tuple(made.engines) == ENGINES
    assert made.stages["extraction"].seconds == pytest.approx(
        128_066 / 250 + 19.33e9 / 5e8, rel=0.01
    )
    expected = 37_011_074 * (5e-7 + 289 * 6e-9)
    assert made.engines["exact"].seconds == pytest.approx(expected)
    assert (made.engine, made.factory) == ("certified", "IVF16384_HNSW32,PQ32")
    assert "proven" in made.engine_reason
    assert "9.48GB" in made.index_reason


def test_an_engine_without_proof_is_chosen_where_a_proof_takes_too_long():
    made = estimate(100 * PAPER_IMAGES, RATES, Config(), 289)
    assert made.engine == "ann"
    assert made.engines["certified"].seconds > 300


@pytest.mark.parametrize(
    ("num_images", "kind", "reason"),
    [
        (60, "auto", "so few patches are scanned whole"),
        (3000, "auto", "take only 222MB uncompressed"),
        (100, "ivf-flat", "index.kind = ivf-flat asks for it"),
    ],
)
def test_the_index_is_explained(num_images, kind, reason):
    config = load_config(overrides=[f"index.kind={kind}"])
    assert reason in estimate(num_images, RATES, config, 289).index_reason


def test_a_card_is_estimated_to_be_far_faster_than_a_processor():
    there = accelerated_seconds(paper(), H100, 289)
    here = engine_seconds(paper(), RATES, 289)
    assert paper().store_bytes < H100.memory_bytes
    for name in ("exact", "certified"):
        assert 0.5 < there[name] < here[name] / 5


@pytest.mark.parametrize("num_images", [100, 3000, PAPER_IMAGES, 1_281_167])
@pytest.mark.parametrize("kind", ["auto", "flat", "ivf-flat"])
def test_the_smallest_budget_that_is_named_really_passes(num_images, kind):
    work = Workload(load_config(overrides=[f"index.kind={kind}"]), num_images, cores=2)
    with pytest.raises(ConfigError, match="too small for any index of them") as refusal:
        require_memory(work, 1_000_000)
    words = str(refusal.value).split("the smallest that works is ")[1].split(". Give")[0].split()
    given_memory = memory_budget(words[words.index("--memory") + 1])
    changes = [word for word in words if "=" in word]
    smaller = Workload(load_config(overrides=[f"index.kind={kind}", *changes]), num_images, cores=2)
    require_memory(smaller, given_memory)
    with pytest.raises(ConfigError):
        require_memory(smaller, int(0.98 * given_memory))


def test_a_budget_that_smaller_settings_meet_is_refused_with_those():
    with pytest.raises(
        ConfigError, match=r"Give --memory .*GB .* --set index.kind=ivf-pq"
    ) as refusal:
        require_memory(paper(kind="flat"), 8_000_000_000)
    words = str(refusal.value).replace(",", "").split()
    changes = [word for word in words if word.startswith(("index.", "store."))]
    require_memory(Workload(load_config(overrides=changes), PAPER_IMAGES, cores=2), 8_000_000_000)
    needed = memory_budget(words[words.index("--memory") + 1])
    require_memory(paper(kind="flat"), needed)


def test_the_default_budget_is_a_share_of_what_is_available(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5000 * 1024))
    monkeypatch.setattr(system, "_MEMORY_LIMIT", limit)
    assert memory_budget(None) == 5000 * 1024 * 8 // 10
    limit.write_text("max\n")
    assert memory_budget(None) == 5000 * 1024 * 8 // 10
    limit.write_text("1000000\n")
    assert memory_budget(None) == 800_000


def test_a_disk_that_is_too_small_is_refused_with_both_sizes(monkeypatch, tmp_path):
    work = paper()
    usage = Usage(total=10**12, used=0, free=work.disk_bytes - work.sums_bytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match=r"needs 22.9GB of disk: 19.4GB .* 22.9GB are free"):
        require_disk(work, tmp_path / "not" / "there")
    # What is there already needs no space any more.
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "thesis.tex").write_bytes(b"years of work")
    with pytest.raises(StoreError, match="free there"):
        require_disk(work, tmp_path / "store")
    (tmp_path / "store.partial" / "shard-00000.h5").write_bytes(b"x")
    require_disk(work, tmp_path / "store")


def test_bounds_shrink_with_the_dimension_of_the_data(rng):
    def distances(num: int, dimension: int) -> np.ndarray:
        points = rng.random((200, num, dimension)) - 0.5
        squares = np.sort((1e4 * points**2 * 1e2).sum(axis=2), axis=1)
        return squares[:, :20].astype(np.int64)

    for dimension in (2, 6):
        few, many = distances(500, dimension), distances(4000, dimension)
        expected = expected_bounds(few, growth=8.0)
        assert np.median(expected) == pytest.approx(np.median(many[:, -1]), rel=0.35)
    np.testing.assert_array_equal(expected_bounds(few, growth=1.0), few[:, -1])
    assert expected_bounds(np.array([[7]]), growth=10.0).tolist() == [7]


def test_lines_never_fall_and_pass_through_the_longer_measurement():
    for few, many in (((10, 2.0), (40, 5.0)), ((10, 2.0), (40, 1.0)), ((10, 0.1), (40, 5.0))):
        line = Line.through(few, many)
        assert line.fixed >= 0
        assert line.per_query >= 0
        assert line.seconds(1, many[0]) == pytest.approx(many[1])
    assert Line.through((1, 3.0), (1, 4.0)).seconds(2, 1) == 8.0


@pytest.fixture
def quick(monkeypatch):
    """Measures on little, so that tests are fast."""
    for name, value in (("_WRITTEN_BYTES", 1 << 16), ("_CENTRES", 64), ("_CODED", 256)):
        monkeypatch.setattr(machine, name, value)


@pytest.mark.parametrize("num", [1, 6])
def test_every_rate_is_measured_and_positive(num, quick, write_images, tmp_path, small_config):
    files = find_images(write_images(num=num)).files
    before = sorted(tmp_path.rglob("*"))
    rates = measure_rates(small_config, files, tmp_path, num_queries=49, num_images=100)
    lines = (rates.exact, rates.certified)
    assert all(line.seconds(1000, 49) > 0 for line in lines)
    others = {name: rate for name, rate in vars(rates).items() if rate not in lines}
    assert all(np.isfinite(rate) and rate > 0 for rate in others.values()), others
    assert sorted(tmp_path.rglob("*")) == before


def test_images_that_cannot_be_read_are_refused_before_a_plan(quick, tmp_path, small_config):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = find_images(tmp_path).files
    with pytest.raises(ImageError, match="None of 1 sampled images could be read"):
        measure_rates(small_config, files, tmp_path, num_queries=49, num_images=1)


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(words[0]), *SETTINGS, *map(str, words[1:])])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def files_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_plan_prints_a_table_and_leaves_nothing(quick, write_images, tmp_path):
    images = write_images()
    before = files_below(tmp_path)
    words = ["--out", tmp_path / "store", "--gpu", "--fraction", 0.5, "--memory", "64GB"]
    code, printed, said = run("plan", images, *words)
    assert code == 0, said
    assert "Images: 6 found, 2 (33.3%) to be stored" in printed
    assert "Patches: 98" in printed
    assert "Index: IDMap,Flat, as so few patches are scanned whole" in printed
    assert "64.0GB may be used" in printed
    assert "not measured" in printed or "measured on the one here" in printed
    for name in (*STAGES, *(f"search: {engine}" for engine in ENGINES)):
        assert name in printed
    assert files_below(tmp_path) == before


def test_plan_prints_json_for_machines(quick, write_images, tmp_path):
    words = ["--json", "--images-count", 1_281_167, "--memory", "1TB", "--queries", 10]
    code, printed, said = run("plan", write_images(), "--out", tmp_path, *words)
    found = json.loads(printed)
    assert (found["num_images"], found["num_patches"]) == (1_281_167, 1_281_167 * 49)
    assert found["stages"].keys() == set(STAGES)
    assert found["engines"].keys() == set(ENGINES)
    assert found["engines"]["exact"].keys() == {"peak_bytes", "seconds"}
    assert (code, found["problem"]) == (0, ""), said


def test_a_plan_that_does_not_fit_is_printed_and_then_refused(quick, write_images, tmp_path):
    images = write_images()
    code, printed, said = run("plan", images, "--out", tmp_path / "s", "--memory", "1MB")
    assert (code, "merging" in printed) == (2, True)
    assert "the smallest that works is --memory" in said
    code, printed, _ = run("plan", images, "--out", tmp_path / "s", "--memory", "1MB", "--json")
    assert code == 2
    assert "too small for any index" in json.loads(printed)["problem"]


@pytest.mark.parametrize("memory", ["1MB", "8 Gigabyte"])
def test_indexing_what_does_not_fit_is_refused_and_writes_nothing(memory, write_images, tmp_path):
    images = write_images()
    before = files_below(tmp_path)
    out = tmp_path / "not" / "store"
    code, printed, said = run("index", images, "--out", out, "--memory", memory)
    assert (code, printed) == (2, "")
    assert said.startswith("error: ConfigError: ")
    assert files_below(tmp_path) == before


def test_indexing_within_the_budget_is_done_and_once_done_needs_none(write_images, tmp_path):
    images = write_images()
    assert run("index", images, "--out", tmp_path / "store", "--memory", "2GB")[0] == 0
    code, _, said = run("index", images, "--out", tmp_path / "store", "--memory", "1MB")
    assert (code, "nothing to do" in said) == (0, True), said


def test_indexing_on_a_full_disk_is_refused_and_writes_nothing(monkeypatch, write_images, tmp_path):
    images = write_images()
    before = files_below(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    code, _, said = run("index", images, "--out", tmp_path / "store")
    assert (code, "1B are free there" in said) == (2, True), said
    assert files_below(tmp_path) == before


def test_plans_measure_the_settings_and_count_they_are_asked_for(
    monkeypatch, write_images, tmp_path
):
    asked = []
    monkeypatch.setattr(planner, "measure_rates", lambda *given, **_: asked.append(given) or RATES)
    made = planner.plan(
        Config(), write_images(), tmp_path / "a" / "b", memory="1TB", queries=5, num_images=77
    )
    (config, files, folder, queries, num_images) = asked[0]
    assert (config, len(files), folder, queries, num_images) == (Config(), 6, tmp_path, 5, 77)
    assert (made.num_found, made.num_images, made.num_queries) == (77, 77, 5)
