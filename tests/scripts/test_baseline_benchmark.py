"""The benchmark of methods: its rows are a run's own numbers, and what is refused says why."""

import argparse
import importlib
from pathlib import Path

import numpy as np
import pytest

from patchcollide import pipeline
from patchcollide.images.pictures import write_png
from patchcollide.networks import feature_files
from patchcollide.runs import collide, networks
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary
from tests.conftest import SMALL
from tests.helpers.presence import present

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


@pytest.fixture
def benchmark_(monkeypatch, small_network, tmp_path):
    """The script, with two small pictures for photographs and a small network."""
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("bench_baselines")
    for stage in (collide, networks, feature_files):
        monkeypatch.setattr(stage, "load_network", lambda *_: small_network)
    return script


@pytest.fixture
def pair(tmp_path, rng):
    named = [(name, tmp_path / f"{name}.png") for name in ("first", "second")]
    for _, path in named:
        write_png(path, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    return tuple(named)


def test_a_row_is_what_the_run_says_and_is_not_made_again(
    benchmark_, pair, write_images, tmp_path, monkeypatch
):
    overrides = [*SMALL, "method=features"]
    images = write_images()
    row = benchmark_.measure(pair, "features, x", overrides, images, tmp_path)
    summary = read_summary(open_run(tmp_path / "first-second-features-x"))
    ends = [vertex["class_name"] for vertex in summary["vertices"]]
    assert row["classes"] == {name: ends.count(name) for name in set(ends)}
    boundary = summary["certificate"]["boundary"]["vertices"]
    assert row["dead_share"] == pytest.approx(np.mean([part["dead_share"] for part in boundary]))
    source_distance = summary["closeness"]["distance_mean"]
    assert row["source_share"] == source_distance / present(summary["dataset_distance_mean"])
    assert row["tau_max"] == summary["tightness"]["hull"]["tau_max"]
    assert row["slack_min"] == min(part["slack_min"] for part in boundary)
    monkeypatch.setattr(collide, "_make_run", None)
    assert benchmark_.measure(pair, "features, x", overrides, images, tmp_path) == row


def test_the_table_says_why_a_method_was_refused(benchmark_, pair, write_images, tmp_path):
    overrides = [*SMALL, "method=features", "retrieval.k=3"]
    row = benchmark_.measure(pair, "features", overrides, write_images(), tmp_path)
    refused = {"source": "a", "target": "b", "variant": "null space", "refused": "no null space."}
    lines = benchmark_.as_markdown([row, refused]).splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[2].startswith("| first to second | features | 6 |")
    assert lines[3].startswith("| a to b | null space | refused |")
    assert lines[-1] == "null space: no null space."


def test_an_input_error_is_a_row(benchmark_, pair, write_images, tmp_path):
    def refuse(*_, **__):
        raise benchmark_.InputError("This does not apply.")

    images = write_images()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "collide", refuse)
        row = benchmark_.measure(pair, "null space", list(SMALL), images, tmp_path)
    expected = {"source": "first", "target": "second", "variant": "null space"}
    assert row == expected | {"refused": "This does not apply."}


def test_digits_are_a_pair_of_their_own_with_a_network_for_them(benchmark_, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_, "train", lambda *_: None)
    subject = benchmark_._digits(argparse.Namespace(out=tmp_path, data=None))
    (source, target), *others = subject[0]
    assert not others
    assert [(name, path.parent.name) for name, path in (source, target)] == [("3", "3"), ("7", "7")]
    assert set(subject[2]) == set(benchmark_.VARIANTS)
    assert f'network.weights="{tmp_path / "mlp.safetensors"}"' in subject[3]
