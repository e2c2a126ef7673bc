"""Runs against networks and layers: the matrix, its files, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import ImageError, InputError, NetworkError, RunError
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.images.pictures import read_pixels, read_png, write_png
from patchcollide.io.files import read_json, write_json
from patchcollide.networks.loading import parse_spec
from patchcollide.report.transfer import transfer_lines, transfer_tables, write_transfer
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary
from patchcollide.runs.transfer import TransferOptions, transfer
from tests.helpers.presence import present

SETTINGS = (
    "network.name=mlp",
    "network.weights=random",
    "network.min_confidence=0",
    "optimiser.num_vertices=3",
    "evaluation.batch_size=16",
    "evaluation.num_samples=20",
    "evaluation.check_samples=40",
    "evaluation.null_samples=40",
    "evaluation.dataset_pairs=10",
    "evaluation.null_images=5",
    "exact.extents=false",
)
RANDOM = [parse_spec("mlp=random:all"), parse_spec("lenet5=random:conv2,fc1")]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "digits", read_digits(None, "test"), 12)
    return folder / "digits"


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    """An exact run at the MLP's first layer, from another digit."""
    target, source = sorted(digits.rglob("*.png"))[:2]
    out = tmp_path_factory.mktemp("runs") / "exact"
    pipeline.find_exact(load_config(overrides=SETTINGS), target, out, source=source)
    return out


@pytest.fixture
def config():
    return load_config(overrides=SETTINGS)


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run with changes to what config.json says of it."""

    def make(name, **identity):
        folder = tmp_path / name
        folder.mkdir()
        for path in run.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        about = read_json(folder / "config.json", error=RunError)
        about["identity"] |= identity
        write_json(folder / "config.json", about)
        return folder

    return make


def test_at_its_own_layer_a_run_is_as_in_its_summary(run, config):
    matrix = transfer(config, [run], [], TransferOptions())
    (cell,) = matrix.cells
    assert (cell.run, cell.network, cell.layer, cell.own) == ("exact", "mlp=random", "act1", True)
    summary = read_summary(open_run(run))
    gaps = summary["certificate"]["hull"]
    assert matrix.num_samples == {"exact": 20}
    assert cell.hull.in_class == summary["success_rate"]
    assert cell.hull.feature_distance == pytest.approx(
        gaps["feature_distance_relative"]["mean"], rel=1e-5
    )
    assert cell.hull.inactive_response == pytest.approx(
        gaps["inactive_response_share"]["mean"], rel=1e-5
    )
    source = summary["certificate"]["source"]
    assert present(cell.source).feature_distance == pytest.approx(
        source["feature_distance_relative"], rel=1e-5
    )
    assert cell.target_class == summary["target_class_name"]
    assert cell.target_probability == pytest.approx(summary["target_probability"], abs=1e-6)
    assert (cell.num_units, cell.num_active) == (256, present(summary["exact"])["active"])


def test_collisions_go_on_behind_their_layer_but_not_in_another_network(run, config, digits):
    matrix = transfer(config, [run], RANDOM, TransferOptions(images=digits))
    assert matrix.columns == [
        ("mlp=random", "act1"),
        ("mlp=random", "act2"),
        ("lenet5=random", "act2"),
        ("lenet5=random", "act3"),
    ]
    first, second, *others = matrix.cells
    assert [cell.own for cell in matrix.cells] == [True, False, False, False]
    # Vertices are rounded to 8 bits.
    assert 0 < second.hull.feature_distance < 0.01
    for cell in others:
        assert cell.hull.feature_distance > 10 * max(
            first.hull.feature_distance, second.hull.feature_distance
        )
    assert list(matrix.null) == matrix.columns
    for cell in (first, second):
        null = matrix.null[cell.network, cell.layer]
        assert null.feature_distance > 10 * cell.hull.feature_distance


def test_a_source_that_is_the_target_says_nothing(copy, config):
    folder = copy("self")
    write_png(folder / "source.png", read_png(folder / "target.png"))
    (cell,) = transfer(config, [folder], [], TransferOptions()).cells
    assert cell.source is None


def test_fewer_points_and_layers_by_name(run, config):
    options = TransferOptions(layers=("fc2",), num_samples=3)
    matrix = transfer(config, [run], [parse_spec("mlp=random")], options)
    assert matrix.num_samples == {"exact": 3}
    assert matrix.columns == [("mlp=random", "act2")]
    assert transfer(config, [run], [], options).columns == [("mlp=random", "act2")]


def test_weights_of_one_name_are_told_apart(run, config, tmp_path):
    from patchcollide.networks.models.digit_networks import build_digit_network
    from patchcollide.networks.models.weights import write_weights

    specs = []
    for seed, name in enumerate("ab"):
        path = tmp_path / name / "w.safetensors"
        path.parent.mkdir()
        write_weights(path, build_digit_network("mlp", "relu", seed), {"network": "mlp"})
        specs.append(parse_spec(f"mlp={path}"))
    matrix = transfer(config, [run], specs, TransferOptions(num_samples=2))
    assert len(matrix.columns) == 2
    # Random weights of seed 0 are those of the run.
    assert [cell.own for cell in matrix.cells] == [True, False]


def test_runs_of_different_layers_need_to_be_allowed(run, copy, config):
    other = copy("later", layer="act2")
    with pytest.raises(RunError, match=r"act1 of mlp \(exact\); act2 of mlp \(later\).*--mixed"):
        transfer(config, [run, other], RANDOM, TransferOptions())
    matrix = transfer(config, [run, other], RANDOM, TransferOptions(num_samples=2, mixed=True))
    assert matrix.runs == ["exact", "later"]
    own = [(cell.run, cell.layer) for cell in matrix.cells if cell.own]
    assert own == [("exact", "act1"), ("later", "act2")]


def test_a_target_without_a_picture_is_refused(copy, config):
    folder = copy("features")
    about = read_json(folder / "config.json", error=RunError)
    about["inputs"]["target_given_as"] = "features"
    write_json(folder / "config.json", about)
    with pytest.raises(RunError, match="there is no picture of its target"):
        transfer(config, [folder], RANDOM, TransferOptions())


def test_images_of_other_channels_are_refused(copy, config):
    folder = copy("colour")
    for path in folder.glob("vertex-*.png"):
        write_png(path, np.repeat(read_png(path), 3, axis=2))
    with pytest.raises(NetworkError, match=r"colour holds RGB images, but .* takes grey"):
        transfer(config, [folder], [], TransferOptions())


@pytest.mark.parametrize(
    ("specs", "layers", "message"),
    [
        (["mlp=random:fc9"], (), "mlp has no layer 'fc9'"),
        (["mlp=random"], ("conv1",), "mlp has no layer 'conv1'"),
        (["resnet"], (), "not a known network"),
    ],
)
def test_unknown_networks_and_layers_are_refused(run, config, specs, layers, message):
    options = TransferOptions(layers=layers)
    with pytest.raises(NetworkError, match=message):
        transfer(config, [run], [parse_spec(spec) for spec in specs], options)


def test_one_image_makes_no_pair(run, config, write_images):
    with pytest.raises(ImageError, match="two images or more"):
        transfer(config, [run], [], TransferOptions(images=write_images(num=1)))


def test_tables_hold_the_figures(run, config, digits):
    matrix = transfer(config, [run], RANDOM, TransferOptions(images=digits))
    tables = transfer_tables(matrix)
    lines = [line for line in tables.splitlines() if line.startswith("|")]
    assert len(lines) == 3 * (2 + 3)
    assert {line.count("|") for line in lines} == {2 + len(matrix.columns)}
    assert lines[2].startswith("| exact | **")
    assert [line.split(" | ")[0] for line in lines[2:5]] == [
        "| exact",
        "| exact, its source",
        "| random pairs",
    ]
    assert len({len(line) for line in transfer_lines(matrix)}) == 1
    assert len(list(transfer_lines(matrix))) == 2 * len(matrix.columns)


def test_many_layers_go_down(run, config):
    specs = [parse_spec(f"{name}=random:all") for name in ("mlp", "lenet5")]
    matrix = transfer(config, [run], specs, TransferOptions(num_samples=2))
    assert "| exact |" in transfer_tables(matrix)
    copies = [replace(cell, network="copy") for cell in matrix.cells]
    wide = replace(matrix, cells=(*matrix.cells, *copies))
    lines = transfer_tables(wide).splitlines()
    assert lines[2] == "|  | exact | exact, its source |"
    assert lines[4].startswith("| mlp=random act1 | **")


@pytest.mark.parametrize("suffix", ["md", "json", "png", "pdf"])
def test_files_are_the_same_again(run, config, tmp_path, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        matrix = transfer(config, [run], RANDOM, TransferOptions(num_samples=4))
        write_transfer(path, matrix)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    if suffix == "png":
        image = read_pixels(paths[0])
        # The red frame of what the run was made for, and nothing else of its colour.
        red = (abs(image.astype(int) - [0xD1, 0x34, 0x3F]).sum(axis=-1) < 30).any(axis=0)
        assert 0 < red.sum() < image.shape[1] / 2


def test_another_kind_of_file_is_refused(run, config, tmp_path):
    matrix = transfer(config, [run], [], TransferOptions(num_samples=2))
    with pytest.raises(InputError, match=r"should end in \.md, \.json, \.png, \.pdf or \.svg"):
        write_transfer(tmp_path / "a.txt", matrix)


def test_the_command_prints_and_writes(run, digits, tmp_path):
    out = [tmp_path / "a.md", tmp_path / "a.json"]
    words = ["transfer", run, "--networks", "mlp=random", "--networks", "lenet5=random:fc1"]
    words += ["--layers", "all", "--samples", 5, "--images", digits]
    words += ["--set", "evaluation.null_images=4", "--out", out[0], "--out", out[1]]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "act1*" in result.stdout
    assert "…" not in result.stdout
    assert str(out[1]) in result.stdout
    written = json.loads(out[1].read_text())
    assert written["encoding-type"] == "transfer"
    assert [(cell["network"], cell["layer"]) for cell in written["cells"]] == [
        ("mlp=random", "act1"),
        ("mlp=random", "act2"),
        ("lenet5=random", "act3"),
    ]
    assert len(written["null"]) == 3
    assert written["num_samples"] == {"exact": 5}
    assert {"runs", "networks", "settings", "seed", "versions"} <= written.keys()


def test_the_command_refuses_before_it_works(run, tmp_path):
    words = ["transfer", str(run), "--out", str(tmp_path / "a.txt")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
