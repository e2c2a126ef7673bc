"""The benchmarks of exact polytopes, on the digits that come with scikit-learn."""

import numpy as np
import pytest

from patchcollide.images.digits import Digits, read_digits


@pytest.mark.slow
def test_descents_are_held_against_the_exact_polytope(run, tmp_path):
    out = tmp_path / "exact"
    words = ["--out", out, "--epochs", 2, "--directions", 1, "--starts", 1, "--steps-authors", 30]
    words += ["--rates", 10, 1e6, "--other", 3, "--set", "optimiser.steps=40"]
    words += ["--set", "optimiser.num_vertices=2", "--set", "network.min_confidence=0"]
    document = run("bench_exact", *words)
    exact, *others = document["rows"]
    assert exact["method"] == "linear programs"
    assert [row["start"] for row in others] == [7, 7, 3, 3]
    assert [row["method"].split(",")[0] for row in others] == ["ours", "authors'"] * 2
    assert exact["against"]["samples_inside"] == [1, 1, 1, 1]
    assert max(exact["against"]["off_subspace"]) < 1e-9
    for row in others:
        # No hull of approximate vertices is wider than the polytope is where it is not left.
        assert row["against"]["far_distance"] == exact["against"]["far_distance"]
        assert row["against"]["subspace"]["exact_width"] == pytest.approx(
            exact["against"]["subspace"]["exact_width"]
        )
    for row in others[1::2]:
        losses = row["final_losses"]
        assert list(losses) == ["10", "1e+06"]
        best = min((rate for rate in losses if losses[rate] is not None), key=losses.get)
        assert row["method"] == f"authors', step size {best}"
    table = (out / "table.md").read_text().splitlines()
    assert table == document["table"]
    assert len(table) == 2 + 5
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    assert run("bench_exact", *words)["rows"] == document["rows"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json")} == before


@pytest.mark.slow
def test_polytopes_are_measured_by_activation(run, tmp_path):
    out = tmp_path / "activations"
    words = ["--out", out, "--epochs", 2, "--targets", 1, "--tolerance", 0.05]
    document = run("bench_activations", *words, "--activations", "relu", "tanh")
    rows = document["rows"]
    assert [(row["activation"], row["tolerance"]) for row in rows] == [
        ("relu", 0),
        ("relu", 0.05),
        ("tanh", 0.05),
    ]
    equal, near, smooth = rows
    assert equal["equations"] + equal["half_lines"] == 256
    assert equal["dimension"] <= 28**2 - equal["equations"] or equal["equations"] > 28**2
    # With a tolerance no unit is met exactly, and a bit more is blind.
    assert near["equations"] == smooth["equations"] == 0
    assert near["dimension"] is None
    assert equal["half_lines"] <= near["half_lines"] < 256
    for row in rows:
        assert row["in_class"] > 0.9
        assert 0 < row["vertex_distance_share"] <= row["far_distance_share"]
    assert (out / "table.md").read_text().splitlines() == document["table"]
    again = run("bench_activations", *words, "--activations", "tanh", "relu")
    assert again["rows"] == [smooth, equal, near]


def test_targets_are_of_different_classes_first(script):
    labels = np.array([7, 2, 7, 1, 2, 7])
    digits = Digits(np.zeros((6, 28, 28, 1), np.uint8), labels, "a few", "test")
    choose = script("bench_activations").choose_targets
    assert choose(digits, 3) == [0, 1, 3]
    assert choose(digits, 6) == [0, 1, 3, 2, 4, 5]
    assert choose(digits, 9) == [0, 1, 3, 2, 4, 5]
    bundled = read_digits(None, "test")
    assert len(set(bundled.labels[choose(bundled, 10)])) == 10


def test_tables_have_a_cell_for_each_column(script):
    reach = {"width_ratio": 0.5, "boundary_ratio": None}
    against = {
        "vertex_distance": 1.0,
        "span": reach,
        "subspace": None,
        "off_subspace": [0.1, 0.3],
        "depths": [0.2, -0.4],
        "samples_inside": [0.0, 0.5, 1.0, 1.0],
    }
    rows = [
        {"start": 7, "method": "ours", "run": {"steps": 3}, "against": against},
        {"start": 2, "method": "ours", "run": {"steps": 3}, "against": {**against, "span": None}},
    ]
    lines = script("bench_exact").table(rows, 7)
    assert {line.count("|") for line in lines} == {11}
    assert lines[2] == (
        "| 7 from itself | ours | 3 | 1.00 | 50 % | - | 0.2 | 0.4 | 0, 50, 100, 100 % | 0 % |"
    )
    assert lines[3].startswith("| 7 from 2 | ours | 3 | 1.00 | - |")


@pytest.mark.slow
def test_polytopes_are_measured_by_the_penalty_on_collinearity(run, tmp_path):
    out = tmp_path / "collinearity"
    words = ["--out", out, "--epochs", 2, "--targets", 1, "--set", "optimiser.steps=40"]
    document = run("bench_collinearity", *words, "--weights", 0, 10, "--seeds", 3)
    plain, penalised = document["cells"]
    assert (plain["weight"], penalised["weight"]) == (0, 10)
    for layer in ("fc1", "fc2"):
        assert penalised[f"cosine_{layer}"] < plain[f"cosine_{layer}"]
    for cell in document["cells"]:
        assert cell["dimension"] == 28**2 - cell["equations"]
        assert cell["in_class"] == 1
        assert 0 < cell["pixel_width"] <= 1
    # A line that was cut off is made again, others are not.
    path = out / "cells.jsonl"
    lines = path.read_text().splitlines()
    path.write_text(f"{lines[0]}\n{lines[1][:50]}\n")
    again = run("bench_collinearity", *words, "--weights", 0, 10, "--seeds", 3)
    assert again["cells"][0] == plain
    assert again["cells"][1]["dimension"] == penalised["dimension"]
    assert len(path.read_text().splitlines()) == 2


def test_weights_are_lines_with_means_over_seeds(script):
    benchmark = script("bench_collinearity")
    keys = [column[0] for column in benchmark._COLUMNS.values() if column]
    cells = {
        (1.0, seed): {**dict.fromkeys(keys, 2.0), "dimension": value}
        for seed, value in enumerate([690.0, 700.0])
    }
    lines = benchmark.table([1.0], cells)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| 1 | 200.00 ± 0.00 % |")
    assert "| 695 ± 7 |" in lines[2]
    alone = benchmark.table([1.0], {(1.0, 0): cells[1.0, 0]})
    assert "| 690 ± unknown |" in alone[2]
