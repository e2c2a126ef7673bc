"""The command that prints how large polytopes are at each layer."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.evaluation.dimensions import LayerDimensions, measure_dimensions
from patchcollide.images.pictures import write_png
from patchcollide.networks.trace import ANY, PIXELS, InputKind
from patchcollide.polyhedra.proposition1 import Proposition1
from patchcollide.report.tables import dimension_lines
from tests.helpers.presence import present


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(2)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path in paths:
        write_png(path, rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
    return paths


def run(*words):
    result = CliRunner().invoke(app, ["dimensions", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


RANDOM_MLP = ("--network", "mlp", "--weights", "random")


def test_a_table_has_a_line_for_each_layer(images):
    result = run(images[0], *RANDOM_MLP, "--layer", "fc2", "--layer", "act1")
    assert result.exit_code == 0
    heading, second, first = result.stdout.splitlines()
    assert heading.split() == [
        "layer", "units", "d", "|P|", "d", "-", "|P|", "dimension", "kernel", "bounded", "inputs",
    ]  # fmt: skip
    config = load_config(overrides=["network.name='mlp'", "network.weights='random'"])
    found = measure_dimensions(config, images[:1], ["fc2", "act1"])
    assert list(found) == ["act2", "act1"]
    for line, layer in ((second, "act2"), (first, "act1")):
        (one,) = found[layer]
        figures = [one.units, one.dimension_of_inputs, one.num_matched, one.bound]
        assert line.split()[:6] == [layer, *map(str, figures), str(present(one.found).dimension)]
    assert first.endswith("no      yes  pixels [0, 1]")


def test_all_usable_layers_are_measured_by_default_and_written(images, tmp_path):
    out = tmp_path / "found.json"
    result = run(*images, *RANDOM_MLP, "--memory", "40MB", "--out", out, "--seed", 4)
    assert result.exit_code == 0
    written = json.loads(out.read_text())
    assert [layer["layer"] for layer in written["layers"]] == ["act1", "act2"]
    assert (written["encoding-type"], written["encoding-version"]) == ("dimensions", 1)
    assert [image["path"] for image in written["images"]] == list(map(str, images))
    assert written["settings"]["network"]["name"] == "mlp"
    assert written["seed"] == 4
    first, second = (layer["images"] for layer in written["layers"])
    assert all(one["found"] is None for one in first)
    assert first[0]["not_computed"] == "needs about 81.2MB, may take 40.0MB"
    assert first[0]["input_kind"] == {"name": "pixels", "range": [0, 1]}
    assert second[0]["input_kind"] == {"name": "act1", "range": [0, None]}
    assert [one["bound"] for one in second] == [256 - one["num_matched"] for one in second]
    assert second[1]["found"]["dimension"] > 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("act1"))
    assert line.endswith("-  pixels [0, 1]  not computed: needs about 81.2MB, may take 40.0MB")


def test_the_same_command_prints_the_same(images):
    words = (images[0], *RANDOM_MLP, "--layer", "act2")
    assert run(*words).stdout == run(*words).stdout


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--layer", "fc9"], "mlp has no layer 'fc9'; did you mean fc"),
        (["--layer", "flatten"], "Layer 'flatten' of mlp is a Flatten"),
        (["--memory", "much"], "--memory much: expected a number of bytes"),
        (["--set", "network.nam=1"], "network.nam"),
        (["--seconds", "-1"], "seconds"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(words, part, images):
    result = run(images[0], *RANDOM_MLP, *words)
    assert result.exit_code == 2
    assert part in " ".join(result.stderr.split())
    assert not result.stdout


@pytest.mark.parametrize("content", [None, b"not a picture"])
def test_an_image_that_cannot_be_read_is_refused(content, tmp_path):
    path = tmp_path / "gone.png"
    if content is not None:
        path.write_bytes(content)
    result = run(path, *RANDOM_MLP)
    assert result.exit_code == 2
    assert str(path) in "".join(result.stderr.split())


def known(layer, num_matched, dimension, *, kernel, bounded, kind=PIXELS):
    found = Proposition1(
        dimension_of_inputs=9,
        num_units=5,
        num_matched=num_matched,
        bound=9 - num_matched,
        target_is_strict=True,
        rank_tolerance=1e-9,
        rank_matched=9 - dimension,
        num_implicit=0,
        dimension=dimension,
        kernel_within=kernel,
        bounded=bounded,
    )
    return LayerDimensions(layer, 5, num_matched, "conv", kind, 9, 1, found)


def test_several_images_give_means_and_ranges():
    relu = InputKind("a", (0.0, np.inf))
    open_below = InputKind("c", (-np.inf, 0.5))
    lines = dimension_lines(
        {
            "a": [
                known("a", 2, 7, kernel=True, bounded=False),
                known("a", 3, 6, kernel=True, bounded=True),
                known("a", 3, 6, kernel=True, bounded=True),
            ],
            "b": [known("b", 1, 8, kernel=False, bounded=False, kind=relu)],
            "c": [known("c", 1, 8, kernel=False, bounded=False, kind=open_below)],
            "d": [
                known("d", 1, 8, kernel=False, bounded=True, kind=ANY),
                LayerDimensions("d", 5, 4, not_computed="too long"),
            ],
            "e": [LayerDimensions("e", not_computed="it runs 2 times")],
        }
    )
    assert [line.split("  ") and " ".join(line.split()) for line in lines[1:]] == [
        "a 5 9 2.7 (2..3) 6.3 (6..7) 6.3 (6..7) yes yes for 2 of 3 pixels [0, 1]",
        "b 5 9 1 8 8 no no a [0, inf)",
        "c 5 9 1 8 8 no no c (-inf, 0.5]",
        "d 5 9 2.5 (1..4) 8 8 no yes any values not computed: too long",
        "e - - - - - - - - not computed: it runs 2 times",
    ]
    assert len({line.index("no") for line in lines[2:4]}) == 1
