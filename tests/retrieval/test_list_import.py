"""The authors' lists, in a small geometry: written as released, imported, and composed."""

import json
import shlex

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import RetrievalError, RunError
from patchcollide.images.pictures import read_square, write_png
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.policy import find_neighbours
from patchcollide.retrieval.released_lists import (
    ListOptions,
    distances_in_store,
    neighbours_from_lists,
)
from patchcollide.runs import collide
from patchcollide.store.writer import write_store
from tests.conftest import SMALL

AUTHORS = [
    *SMALL,
    "images.size_px=64",
    "patches.window_px=16",
    "patches.stride_px=4",
    "patches.patch_px=8",
    "retrieval.query_stride_px=8",
    "retrieval.deduplicate=false",
    "composition.neighbours=1",
    "composition.margin_px=8",
    "composition.coefficient_size=16",  # all pixels of a support on the network's 32
]
SETTINGS = [word for override in AUTHORS for word in ("--set", override)]


class Lists:
    """A store, a source, and what the exact engine finds there, as the authors would release it."""

    def __init__(self, folder, images):
        self.config = load_config(overrides=AUTHORS)
        self.folder, self.path = folder, folder / "lists.npz"
        self.store = write_store(self.config, images, folder / "store")
        self.source, self.target = folder / "source.png", folder / "target.png"
        rng = np.random.default_rng(5)
        for path in (self.source, self.target):
            coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            write_png(path, coarse.repeat(4, axis=0).repeat(4, axis=1))
        self.picture = read_square(self.config, self.source, 64)
        searcher = ExhaustiveSearcher(self.store)
        self.found = find_neighbours(self.config, self.picture, [], self.store, searcher)
        self.write()

    def write(self, image_numbers=None, away=0):
        images, rows, cols = self.store.grid.locate(self.found.ids)
        np.savez(
            self.path,
            finalidx=images.astype(np.int32) if image_numbers is None else image_numbers[images],
            finalpos=4 * np.stack([rows, cols], axis=-1),
            finaldist=np.sqrt((self.found.squared_distances + away).astype(np.float64)),
        )

    def read(self, **options):
        return neighbours_from_lists(
            self.config, self.path, self.picture, self.store, ListOptions(**options)
        )

    def run(self, command, *words):
        result = CliRunner().invoke(app, [command, *SETTINGS, *map(str, words)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, " ".join(result.stderr.split())

    def import_to(self, out, *more):
        place = ["--source", self.source, "--store", self.store.path, "--out", out]
        return self.run("import-neighbours", self.path, *place, *more)

    def collide(self, out, *more):
        pair = ["--source", self.source, "--target", self.target]
        return self.run("collide", *pair, "--out", self.folder / out, *more)


@pytest.fixture
def lists(tmp_path, write_images):
    return Lists(tmp_path, write_images(size=80))


def test_lists_of_the_exact_engine_come_back_as_it_found_them(lists):
    read = lists.read()
    assert read.grid == lists.found.grid
    for name in ("ids", "squared_distances", "patches", "source"):
        np.testing.assert_array_equal(getattr(read, name), getattr(lists.found, name))
    assert (read.image_names, read.margin) == (lists.found.image_names, 8)
    assert not read.proven.any()


def test_distances_in_a_store_are_those_of_a_loop_in_whole_numbers(lists, rng):
    grid = lists.found.grid
    ids = rng.integers(0, lists.store.num_patches, (grid.num_positions, 2))
    queries = grid.patches(lists.picture[None]).reshape(-1, 8, 8, 3)
    found = distances_in_store(lists.store, ids, queries)
    for location in range(0, len(ids), 5):
        for rank in range(2):
            patch = lists.store.patches(ids[location, rank : rank + 1])[0]
            pairs = zip(patch.ravel().tolist(), queries[location].ravel().tolist(), strict=True)
            assert found[location, rank] == sum((a - b) ** 2 for a, b in pairs)


def test_as_many_neighbours_are_kept_as_wanted(lists):
    assert lists.read(keep=2).ids.shape == (49, 2)
    np.testing.assert_array_equal(lists.read(keep=2).ids, lists.found.ids[:, :2])
    with pytest.raises(RetrievalError, match=r"lists 3 neighbours .* --keep asks for 4"):
        lists.read(keep=4)


def test_images_numbered_otherwise_are_refused_until_their_names_are_given(lists):
    shuffled = np.array([3, 5, 0, 1, 2, 4])
    lists.write(shuffled)
    with pytest.raises(RetrievalError, match=r"does not agree with .* with --order, check"):
        lists.read()
    order = lists.folder / "order.txt"
    names = [lists.store.names[number] for number in np.argsort(shuffled)]
    order.write_text("\n".join(names))
    np.testing.assert_array_equal(lists.read(order=order).ids, lists.found.ids)
    order.write_text("\n".join(["elsewhere.png", *names[1:]]))
    with pytest.raises(RetrievalError, match=r"order.txt names 'elsewhere.png', which .* not hold"):
        lists.read(order=order)
    order.write_text("\n".join(names[:3]))
    with pytest.raises(RetrievalError, match=r"names image 5, but .*order.txt has images 0 to 2"):
        lists.read(order=order)


def test_lists_that_do_not_agree_are_taken_on_demand_with_their_own_distances(lists, caplog):
    lists.write(away=10**6)
    with pytest.raises(RetrievalError, match=r"of 147 distances only 0\.0% within 1%, 0\.0% exac"):
        lists.read()
    read = lists.read(unverified=True)
    assert "Its own are kept, unverified" in caplog.text
    np.testing.assert_array_equal(read.squared_distances, lists.found.squared_distances + 10**6)


def test_distances_that_are_nearly_those_of_the_store_are_replaced_by_them(lists):
    """As after another decoder, or another rounding of means."""
    lists.write(away=150)
    read = lists.read()
    np.testing.assert_array_equal(read.squared_distances, lists.found.squared_distances)


def test_another_source_is_noticed(lists):
    picture = read_square(lists.config, lists.target, 64)
    with pytest.raises(RetrievalError, match="the source was prepared differently"):
        neighbours_from_lists(lists.config, lists.path, picture, lists.store, ListOptions())


def test_images_that_the_store_lacks_or_could_not_read_are_refused(lists, monkeypatch):
    lists.write(np.arange(6) + 10)
    with pytest.raises(RetrievalError, match=r"names image 15, but .*store has images 0 to 5"):
        lists.read()
    lists.write()
    monkeypatch.setattr(lists.store, "valid", np.arange(6) != 2)
    with pytest.raises(RetrievalError, match=r"names image 2 of .*store, class-./.\.png, which"):
        lists.read()


def test_patches_of_the_source_itself_are_warned_of(lists, caplog):
    lists.picture = lists.store.image(4)
    lists.config = load_config(overrides=[*AUTHORS, "retrieval.leak_guard=false"])
    searcher = ExhaustiveSearcher(lists.store)
    lists.found = find_neighbours(lists.config, lists.picture, [], lists.store, searcher)
    lists.write()
    lists.read()
    assert f"the source's own picture, or near copies of it: {lists.store.names[4]}" in caplog.text


def test_imported_neighbours_are_composed_and_the_command_makes_the_run_again(
    lists, small_network, monkeypatch
):
    monkeypatch.setattr(collide, "load_network", lambda *_: small_network)
    out = lists.folder / "found.h5"
    code, said = lists.import_to(out)
    assert (code, "100.0% exactly" in said) == (0, True), said
    assert out.with_suffix(".png").exists()
    with h5py.File(out) as file:
        assert (file.attrs["encoding-version"], file.attrs["margin_px"]) == ("3", 8)
        assert file["patches"].shape == (49, 3, 32, 32, 3)
    code, said = lists.collide("run", "--neighbours", out)
    assert code == 0, said
    run = lists.folder / "run"
    assert (run / "neighbours.h5").read_bytes() == out.read_bytes()
    about = json.loads((run / "config.json").read_text())
    assert about["inputs"]["neighbours"] == str(out)
    # The store gives the same vertices: the target is no image of it.
    assert lists.collide("by-store", "--store", lists.store.path, "--engine", "exact")[0] == 0
    vertices = (run / "vertex-0.png").read_bytes()
    assert (lists.folder / "by-store" / "vertex-0.png").read_bytes() == vertices
    run.rename(lists.folder / "before")
    assert CliRunner().invoke(app, shlex.split(about["inputs"]["command"])[1:]).exit_code == 0
    assert (run / "vertex-0.png").read_bytes() == vertices


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("composition.margin_px=4", "with a margin of 8 pixels, but the settings ask for"),
        ("retrieval.query_stride_px=4", "composition.margin_px, retrieval.query_stride_px"),
        ("images.fit=squash", None),  # the same for a square picture
    ],
)
def test_neighbours_of_other_settings_are_refused(
    change, message, lists, small_network, monkeypatch
):
    monkeypatch.setattr(collide, "load_network", lambda *_: small_network)
    out = lists.folder / "found.h5"
    lists.import_to(out)
    code, said = lists.collide("run", "--neighbours", out, "--set", change)
    assert code == (2 if message else 0), said
    assert (message or "") in said


def test_neighbours_of_another_source_or_too_few_are_refused(lists, small_network, monkeypatch):
    monkeypatch.setattr(collide, "load_network", lambda *_: small_network)
    out = lists.folder / "found.h5"
    lists.import_to(out, "--keep", 1)
    lists.source, lists.target = lists.target, lists.source
    code, said = lists.collide("run", "--neighbours", out)
    assert (code, "the neighbours of another picture than" in said) == (2, True), said
    lists.source, lists.target = lists.target, lists.source
    code, said = lists.collide("run", "--neighbours", out, "--set", "composition.neighbours=2")
    assert (code, "holds 1 neighbours of each location, but" in said) == (2, True), said
    assert not list(lists.folder.glob("run*"))


def test_patches_come_from_one_place(lists, small_network, monkeypatch):
    monkeypatch.setattr(collide, "load_network", lambda *_: small_network)
    out = lists.folder / "found.h5"
    lists.import_to(out)
    code, said = lists.collide("run", "--neighbours", out, "--pixels")
    assert (code, "one of --store STORE, --neighbours FILE and --pixels" in said) == (2, True)
    with pytest.raises(RunError, match="Give one of --store and --neighbours"):
        pipeline.collide(
            lists.config,
            lists.source,
            lists.target,
            lists.folder / "run",
            lists.store.path,
            neighbours_path=out,
        )


def test_what_is_there_is_not_written_over(lists):
    out = lists.folder / "found.h5"
    lists.import_to(out)
    code, said = lists.import_to(out)
    assert (code, "is there already" in said) == (2, True), said
