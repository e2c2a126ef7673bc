"""The benchmarks of audits, on the digits that come with scikit-learn."""

import numpy as np
import pytest


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
    assert {line.count("|") for line in lines} == {6}
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
