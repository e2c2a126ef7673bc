"""Files as they were written when their format was new read as they did: ``tests/golden``."""

import ast
import json
import shutil
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import patchcollide
from patchcollide import pipeline
from patchcollide.audit.files import open_audit
from patchcollide.composition.contributions import Contributions
from patchcollide.config_files import load_config, parse_config
from patchcollide.errors import ImageError, StoreError
from patchcollide.evaluation.dimensions import measure_dimensions
from patchcollide.evaluation.samples import load_samples
from patchcollide.images.photographs import write_photographs
from patchcollide.io.hdf5 import open_hdf5
from patchcollide.networks.feature_files import read_features
from patchcollide.optimisation.checkpoints import Checkpoint, DescentState
from patchcollide.proofs.knowledge import Knowledge
from patchcollide.reproduction.results import read_results
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.neighbours import Neighbours, Omissions
from patchcollide.store import export
from patchcollide.store.descriptors import Basis
from patchcollide.store.reader import PatchStore
from patchcollide.store.sums_files import open_sums
from tests.golden import make_formats

GOLDEN = Path(__file__).parent / "golden"
PACKAGE = Path(patchcollide.__file__).parent
FINGERPRINT = "f" * 64
# Three components of the store's patches.
FILTERS = [
    [122, 123, 116, 93, 93, 79, 102, 110, 117, 127, 125, 127],
    [31, 55, 76, 124, 127, 109, -96, -102, -106, -72, -46, -22],
    [-100, -112, -75, 67, 64, 127, 71, 55, 30, 15, -19, -31],
]
Format = tuple[str, str | int]


def written_formats() -> set[Format]:
    """Kinds and versions that the package's modules name together: what they write or read."""
    found: set[Format] = set()
    for path in PACKAGE.rglob("*.py"):
        if "ENCODING" not in path.read_text():
            continue
        dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        names = vars(import_module(dotted))
        kinds = [value for name, value in names.items() if name.endswith("ENCODING")]
        versions = [value for name, value in names.items() if name.endswith("VERSION")]
        found.update(product(kinds, (*versions, *names.get("_OLDER", ()))))
        assert versions or kinds == ["patchcollide-lock"] or not own_kinds(path), dotted
    return found


def own_kinds(path: Path) -> list[str]:
    """Names of the kinds that a module says itself, rather than takes from another."""
    targets = [
        name.id
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        for name in ast.walk(node.targets[0])
        if isinstance(name, ast.Name)
    ]
    return [name for name in targets if name.endswith("ENCODING")]


def archived_formats() -> set[Format]:
    names = "encoding-type", "encoding-version"
    found: set[Format] = set()
    for path in GOLDEN.rglob("*.h5"):
        with h5py.File(path) as file:
            found.add((file.attrs[names[0]], file.attrs[names[1]]))
    documents = (json.loads(path.read_text()) for path in GOLDEN.rglob("*.json"))
    found |= {tuple(map(each.get, names)) for each in documents if names[0] in each}
    # The first line is a header, filled up with spaces.
    headers = (json.loads(path.read_bytes().partition(b"\n")[0]) for path in GOLDEN.rglob("*.dat"))
    return found | {tuple(map(each.get, names)) for each in headers}


def test_each_version_of_each_format_is_archived():
    assert written_formats() - archived_formats() == set()


def said(node: ast.AST) -> dict[str, ast.expr]:
    """What a display of a dictionary, or a call that handles HDF5, says of kind and version."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        found = {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_hdf5"):
        found = {word.arg: word.value for word in node.keywords}
    else:
        found = {}
    names = "encoding-type", "encoding-version", "encoding", "version"
    return {name: found[name] for name in names if name in found}


def test_kinds_and_versions_of_files_are_named_constants():
    """Else the test above would not see them."""
    num_named = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for name, value in said(node).items():
                assert not isinstance(value, ast.Constant), f"{path}: {name} {ast.unparse(value)}"
                num_named += 1
    assert num_named > 50


def test_each_archived_file_is_read_by_a_test():
    tests = "".join(path.read_text() for path in GOLDEN.parent.rglob("test_*.py"))
    names = {path.name for path in GOLDEN.iterdir() if not path.name.startswith(("make_", "_"))}
    assert len(names) > 15
    assert {name for name in names if name not in tests} == set()


def test_features_of_version_1_still_read():
    found = read_features(GOLDEN / "features-v1.h5", make_formats.tiny_network())
    assert found.pre_activation.tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1]
    assert found.image == "a/é.png"


@pytest.mark.parametrize("name", ["samples-v1.h5", "samples-v2.h5"])
def test_samples_still_read(name):
    found = load_samples(GOLDEN / name, FINGERPRINT)
    assert list(found) == ["hull", "tour", "check"]
    for part in found.values():
        assert part.weights.tolist() == [[0.25, 0.75], [1, 0], [0.5, 0.5]]
        assert part.classes.tolist() == [0, 2, 1]
        assert part.probabilities.tolist() == [0.5, 0.25, 0.125]
        assert part.target_probabilities.tolist() == [0.25, 0.125, 0.0625]
        # Version 1 has gaps before the activation there, which say something else.
        expected = [np.nan] * 3 if "v1" in name else [0.125, 0.0625, 0.03125]
        np.testing.assert_array_equal(part.feature_distances, np.array(expected, np.float32))


def test_neighbours_of_version_3_still_read():
    found = Neighbours.load(GOLDEN / "neighbours-v3.h5")
    assert (found.grid.to_dict(), found.margin) == (
        {"image_size": 8, "window_size": 4, "stride": 4, "patch_size": 2},
        1,
    )
    assert found.ids.tolist() == [[0, 9], [1, 6], [2, 4], [11, 3]]
    assert found.squared_distances.tolist() == [[0, 5], [1, 2], [3, 4], [4, 4]]
    assert found.proven.tolist() == [True, False, True, True]
    assert found.source.ravel().tolist() == list(range(192))
    assert found.patches.shape == (4, 2, 6, 6, 3)
    assert found.patches.ravel().tolist() == [number % 251 for number in range(864)]
    assert found.image_names == {0: "a/0.png", 1: "a/1.png", 2: "b/é.png"}
    assert found.omissions == Omissions(1, 2, 3)


def test_a_proof_goes_on_from_version_1():
    known = Knowledge.load(GOLDEN / "proof-v1.h5", FINGERPRINT)
    cells, worst = known.cells["margin"], known.worst["margin"]
    assert cells.weights.tolist() == [[[1, 0], [0.5, 0.5]], [[0.5, 0.5], [0, 1]]]
    assert (cells.bounds.tolist(), cells.depths.tolist()) == ([0.25, -0.5], [1, 1])
    assert (cells.bounded, cells.seconds, cells.share_above(0)) == (3, 0.125, 0.5)
    assert (worst.value, worst.weights.tolist()) == (0.75, [0.25, 0.75])


def test_contributions_of_version_1_still_read():
    found = Contributions.load(GOLDEN / "contributions-v1.h5", FINGERPRINT)
    assert found.locations.tolist() == [[[[0, 1], [2, 3]], [[0, 1], [2, 3]]]]
    assert found.ranks.tolist() == [[[[0, 1], [2, 0]], [[1, 2], [0, 1]]]]
    assert found.parts.ravel().tolist() == [number / 16 for number in range(8)]
    np.testing.assert_array_equal(found.shares, np.full((1, 4, 3), 1 / 12, np.float32))


def test_a_descent_goes_on_from_a_checkpoint_of_version_2():
    parameter = torch.zeros(3, requires_grad=True)
    adam, generator = torch.optim.Adam([parameter], lr=0.5), torch.Generator()
    found = Checkpoint(GOLDEN / "checkpoint-v2.h5", FINGERPRINT).load(parameter, adam, generator)
    history = [{"step": 0, "loss": 0.5, "seconds": 0.25}]
    assert found == DescentState(step=1, history=history, weights={"diversity": 2.5})
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.5, 1.5, 2.5]))
    kept = adam.state[parameter]
    torch.testing.assert_close(kept["exp_avg"], torch.tensor([0.2, 0.4, 0.6]))
    torch.testing.assert_close(kept["exp_avg_sq"], torch.tensor([0.004, 0.016, 0.036]))
    assert kept["step"] == 1
    expected = torch.rand(4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.rand(4, generator=generator), expected)


@pytest.fixture
def store(tmp_path: Path) -> PatchStore:
    folder = shutil.copytree(GOLDEN / "store-v2", tmp_path / "store")
    # Only one of the two equal copies is archived.
    shutil.copy(folder / "manifest.json", folder / "manifest.backup.json")
    return PatchStore.open(folder)


def test_a_store_of_version_2_and_its_index_still_read(store, tmp_path):
    assert store.names == [f"class-{n % 2}/{n}.png" for n in (0, 2, 1, 3)]
    for place, number in enumerate((0, 2, 1, 3)):
        pixels = [index * (2 * number + 1) % 192 for index in range(192)]
        assert store.image(place).ravel().tolist() == pixels
    assert pipeline.verify(store.path).damages == ()
    basis = Basis.load(store.path / "basis.h5", store=store)
    assert basis.filters.tolist() == FILTERS
    assert basis.variance_share == pytest.approx(0.8969855825)
    directions = basis.transform @ np.array(FILTERS, np.float64)
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-6)
    config = load_config(overrides=make_formats.SETTINGS)
    queries, nobody = store.patches(np.arange(store.num_patches)), np.empty(0, np.int64)
    found = open_index(store, config.index).search(queries, 3, nobody)
    expected = ExhaustiveSearcher(store).search(queries, 3, nobody)
    np.testing.assert_array_equal(found.ids, expected.ids)


def test_block_sums_of_version_1_still_read(tmp_path):
    folder = shutil.copytree(GOLDEN / "sums-v1", tmp_path / "store")
    shutil.copy(folder / "manifest.json", folder / "manifest.backup.json")
    store = PatchStore.open(folder)
    assert pipeline.verify(folder).damages == ()
    found = open_sums(store.grid, store.shards[0].origin)
    assert found is not None
    images = found.read(0, 4)
    assert images is not None
    pixels = np.stack([store.image(number) for number in range(4)]).astype(np.int64)
    sums = pixels.reshape(4, 8, 2, 8, 2, 3).sum(axis=(2, 4))
    np.testing.assert_array_equal(images.sums, sums)
    squares = np.square(pixels - 128).reshape(4, 2, 8, 2, 8, 3).sum(axis=(2, 4, 5))
    np.testing.assert_array_equal(images.norms, squares.reshape(4, 4))


def test_a_store_of_version_1_is_refused_with_what_to_do():
    with pytest.raises(StoreError, match=r"is 'patchcollide-store' version 1\. Index the images"):
        PatchStore.open(GOLDEN / "store-v1")


def test_exported_patches_of_version_1_still_read(store):
    with open_hdf5(
        GOLDEN / "patches-v1.h5", encoding=export.ENCODING, version="1", error=StoreError
    ) as file:
        ids = file.array("ids", np.int64, (16,))
        patches = file.array("patches", np.uint8, (16, 2, 2, 3))
        assert file.attribute("grid") == store.grid.to_dict()
        assert file.attribute("export")["store"] == store.fingerprint
    assert ids.tolist() == list(range(16))
    np.testing.assert_array_equal(patches, store.patches(ids))


def test_results_of_version_1_still_read():
    found = read_results(GOLDEN / "reproduction-v1")
    assert {key: row.model_dump(mode="json") for key, row in found.items()} == {
        "cat": {
            "table": "table6",
            "title": "Cat and é",
            "origin": "Table 6, row 2",
            "commands": ["patchcollide collide"],
            "checks": [
                {
                    "metric": "steps",
                    "paper": "7",
                    "expected": "7 ± 1",
                    "status": "OK",
                    "obtained": "8",
                    "why": "",
                }
            ],
            "values": {"steps": 8.0},
            "fingerprint": FINGERPRINT,
            "seconds": 1.5,
            "machine": {"cpu": "one", "cores": 2, "gpu": None},
            "versions": {"numpy": "2"},
            # It says nothing of these, which came later.
            "note": "",
            "verdict": "",
        }
    }


def test_an_audit_of_version_1_still_reads():
    run, found = open_audit(GOLDEN / "audit-v1")
    assert run.config.audit.num_vertices == 2
    assert [row["name"] for row in found["images"]] == ["night/0.png", "day/0.png"]
    # Six dark pixels of nine are free from 0 to the middle, the others fixed.
    assert found["images"][0]["size"] == pytest.approx(6**0.5 * 127.5 / 2**0.5)
    assert [row["active"] for row in found["images"]] == [3, 9]
    assert found["adequacy"]["num_images"] == 2


def structure(value: Any) -> Any:
    """Keys and types, without what a document says."""
    if isinstance(value, dict):
        return {key: structure(each) for key, each in value.items()}
    return [*map(structure, value)] if isinstance(value, list) else type(value).__name__


def test_dimensions_of_version_1_are_still_written_so(tmp_path):
    picture = make_formats.write_pictures(tmp_path) / "class-0" / "0.png"
    settings = ["network.name=mlp", "network.weights=random", "network.device=cpu"]
    # What the defaults of these were.
    settings += ["index.probes=64", "index.rerank=300"]
    config = load_config(overrides=settings)
    measure_dimensions(config, [picture], ["act2"], out=tmp_path / "out.json")
    before, now = (
        json.loads(path.read_text())
        for path in (GOLDEN / "dimensions-v1.json", tmp_path / "out.json")
    )
    # Settings that came since have their defaults.
    assert parse_config(before.pop("settings"), "") == parse_config(now.pop("settings"), "")
    assert now["layers"] == before["layers"]
    assert structure(now) == structure(before)


def test_transfer_of_version_2_is_still_written_so(tmp_path):
    make_formats.transfer(tmp_path / "out.json")
    before, now = (
        json.loads(path.read_text())
        for path in (GOLDEN / "transfer-v2.json", tmp_path / "out.json")
    )
    # Decided by the libraries' versions, and the numbers to a few bits by the processor.
    assert_alike(now, before, {"versions", "digest"})


def assert_alike(now, before, ignored):
    """Asserts equal layout and texts, and numbers equal but for their last digits."""
    if isinstance(before, dict):
        assert now.keys() == before.keys()
        for name in before.keys() - ignored:
            assert_alike(now[name], before[name], ignored)
    elif isinstance(before, list):
        assert len(now) == len(before)
        for one, other in zip(now, before, strict=True):
            assert_alike(one, other, ignored)
    elif isinstance(before, float):
        assert now == pytest.approx(before, rel=1e-3, abs=1e-5)
    else:
        assert now == before


def test_folders_of_digits_and_photographs_of_version_1_are_known_again(tmp_path):
    for name in ("digits-v1", "photographs-v1"):
        shutil.copytree(GOLDEN / name, tmp_path / name)
    make_formats.digits(tmp_path / "digits-v1")
    write_photographs(tmp_path / "photographs-v1", cuts=0, size=8, seed=0)
    assert (tmp_path / "digits-v1" / "3" / "test-00000.png").exists()
    with pytest.raises(ImageError, match=r"holds photographs written with seed = 0 \(now 1\)"):
        write_photographs(tmp_path / "photographs-v1", cuts=0, size=8, seed=1)
