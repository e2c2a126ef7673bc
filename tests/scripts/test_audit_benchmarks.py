"""The benchmarks of audits, on the digits that come with scikit-learn."""

from typing import Any

import numpy as np
import pytest

from patchcollide.audit.adequacy import HEADER, AdequacyRow, measure_adequacy


@pytest.mark.parametrize("share", [0, 0.1, 1])
def test_so_many_labels_as_asked_for_are_wrong(script, share, rng):
    labels = rng.integers(0, 10, 500)
    planted = script("bench_audit").plant(labels, share, rng)
    assert (planted != labels).sum() == 500 * share
    assert set(planted) <= set(range(10))
    if share == 1:
        # Each wrong class is alike likely.
        steps = np.bincount((planted - labels) % 10, minlength=10)
        assert steps[0] == 0
        assert steps[1:].min() > 30


def test_scores_are_judged_by_who_is_mislabelled(script):
    shared = {"size": 1.0, "size_z": -2.0, "probability": 0.5}
    rows = [
        {**shared, "name": "a", "label_doubt": 0.9, "label_probability": 0.1, "agrees": False},
        {**shared, "name": "b", "label_doubt": 0.2, "label_probability": 0.0, "agrees": True},
        {**shared, "name": "c", "label_doubt": 0.3, "label_probability": 0.9, "agrees": True},
    ]
    found = script("bench_audit").judge(rows, {"a": True, "b": False, "c": False}, 0)
    areas = {row["score"]: row["area"] for row in found}
    assert areas["audit: size"] == areas["audit: size unlike the class's"] == 0.5
    assert areas["audit: label doubted in the polytope"] == 1
    # A probability of nothing is a finite loss.
    assert areas["baseline: loss"] == 0.5


def test_trainings_are_columns_of_the_table_of_scores(script):
    judged = [
        {"score": "a", "area": 0.5, "interval": [0.25, 0.75]},
        {"score": "b", "area": 1.0, "interval": None},
    ]
    common = {"num_mislabelled": 2, "scores": judged}
    runs = [{"epochs": 8, "memorised": 0.1, **common}, {"epochs": 60, "memorised": 1, **common}]
    heads, *lines = script("bench_audit").table(runs)
    assert "| score | 8 epochs (10 % of the 2 wrong labels learned) | 60 epochs (100 % of" in heads
    assert lines == [
        "| --- | --- | --- |",
        "| a | 0.500 (0.250 to 0.750) | 0.500 (0.250 to 0.750) |",
        "| b | 1.000 (no interval) | 1.000 (no interval) |",
    ]


@pytest.mark.parametrize("method", ["exact", "search"])
def test_a_network_is_a_line_by_each_way_to_measure_it(method, script):
    figures: Any = {"size": 1.0, "hull_probability": 0.5, "coarse_share": 1.0}
    found = measure_adequacy([figures], 1.0, 0)
    row = AdequacyRow(f"mlp-relu-fc1-{method}", "mlp, fc1", found, 1.0, None)
    by, name, *others = script("bench_adequacy").cells(method, row)
    assert by == {"exact": "linear programs", "search": "descent"}[method]
    assert (name, others[0]) == ("mlp-relu-fc1", "0.5000 (no interval)")
    assert 2 + len(others) == len(HEADER)


@pytest.mark.slow
def test_planted_labels_are_looked_for(run, tmp_path):
    words = ["--out", tmp_path / "audit", "--train", 300, "--epochs", 3, "--per-class", 6]
    words += ["--share", 0.3, "--set", "audit.method=search", "--set", "audit.steps=3"]
    document = run("bench_audit", *words)
    (found,) = document["runs"]
    assert 0 < found["num_mislabelled"] < found["num_images"] <= 60
    for row in found["scores"]:
        assert 0 <= row["interval"][0] <= row["area"] <= row["interval"][1] <= 1
    lines = (tmp_path / "audit" / "table.md").read_text().splitlines()
    assert lines == document["table"]
    assert {line.count("|") for line in lines} == {3}
    assert run("bench_audit", *words)["runs"] == document["runs"]


@pytest.mark.slow
def test_networks_are_compared_by_adequacy(run, script, monkeypatch, tmp_path):
    benchmark = script("bench_adequacy")
    monkeypatch.setattr(benchmark, "CANDIDATES", benchmark.CANDIDATES[:2])
    words = ["--out", tmp_path / "adequacy", "--epochs", 1, "--per-class", 1]
    document = run("bench_adequacy", *words, "--set", "audit.steps=3")
    assert set(document["rows"]) == {"exact", "search"}
    for rows in document["rows"].values():
        assert [row["behind"] is None for row in rows] == [True, False]
        assert rows[0]["adequacy"]["score"] >= rows[1]["adequacy"]["score"]
    table = (tmp_path / "adequacy" / "table.md").read_text().splitlines()
    assert sum("mlp-relu" in line for line in table) == 4
    assert table == document["table"]
