"""What figures of images say of classes, labels and trust."""

import numpy as np
import pytest

from patchcollide.audit.findings import (
    add_findings,
    measure_trust,
    robust_scores,
    summarise_classes,
    suspects,
)


def row(name, label, size=10.0, predicted=0, label_class=None, probability=0.9, doubt=None):
    return {
        "name": name,
        "label": label,
        "size": size,
        "predicted": predicted,
        "predicted_name": f"class {predicted}, synonym",
        "probability": probability,
        "label_class": label_class,
        "hull_label_probability": None if doubt is None else 1 - doubt,
        "hull_probability": probability / 2,
        "hull_agreement": 1.0,
    }


def test_robust_scores_are_deviations_from_the_median():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    assert robust_scores(values) == pytest.approx((values - 3) / 1.4826)
    # Of a normal distribution they are about as wide as standard deviations.
    drawn = np.random.default_rng(0).normal(7, 3, 4000)
    assert robust_scores(drawn).std() == pytest.approx(1, abs=0.05)


def test_one_stray_value_among_equal_ones_stands_out():
    scores = robust_scores(np.array([5.0] * 9 + [6.0]))
    assert (scores[:9] == 0).all()
    assert scores[9] > 3.5
    assert (robust_scores(np.full(3, 2.0)) == 0).all()


def test_a_named_folder_has_its_own_class_and_another_what_most_are_predicted_as():
    rows = [row(f"a/{n}", "a", predicted=n % 3, label_class=2, doubt=0.75) for n in range(3)]
    rows += [row(f"b/{n}", "b", predicted=[4, 4, 1][n]) for n in range(3)]
    rows += [row(f"c/{n}", "c", predicted=n) for n in range(2)]
    found = {each["name"]: each for each in add_findings(rows)}
    assert [found[f"a/{n}"]["agrees"] for n in range(3)] == [False, False, True]
    assert [found[f"b/{n}"]["agrees"] for n in range(3)] == [True, True, False]
    # Neither of two that are tied.
    assert [found[f"c/{n}"]["agrees"] for n in range(2)] == [None, None]
    assert found["a/0"]["label_doubt"] == 0.75
    assert found["b/0"]["label_doubt"] is None


def test_scores_are_within_the_class_and_of_classes_that_are_large_enough():
    rows = [row(f"a/{n}", "a", size=100.0 + n) for n in range(5)]
    rows += [row(f"b/{n}", "b", size=1.0 + n) for n in range(4)]
    found = {each["name"]: each["size_z"] for each in add_findings(rows)}
    assert [found[f"a/{n}"] for n in range(5)] == pytest.approx(
        [(n - 2) / 1.4826 for n in range(5)]
    )
    assert all(found[f"b/{n}"] is None for n in range(4))


def test_rows_are_ranked_by_size_then_name():
    rows = [row("b", "x", 2.0), row("c", "x", 9.0), row("a", "x", 2.0)]
    assert [each["name"] for each in add_findings(rows)] == ["c", "a", "b"]


def test_classes_are_ranked_by_their_median():
    rows = add_findings(
        [row("a/0", "a", 1.0), row("a/1", "a", 3.0), row("b/0", "b", 5.0, label_class=7)]
    )
    second, first = reversed(summarise_classes(rows, 10.0))
    assert (first["label"], first["size_median"], first["size_share"]) == ("b", 5.0, 0.5)
    assert first["agreement"] == 0
    assert (second["size_median"], second["size_quartiles"]) == (2.0, [1.5, 2.5])
    # One image has no spread, rather than none at all.
    assert first["size_quartiles"] is None
    assert summarise_classes(rows, None)[0]["size_share"] is None


def test_suspects_are_predicted_otherwise_or_of_another_size_than_their_class():
    rows = [row(f"a/{n}", "a", size=10 + 0.1 * n, label_class=0) for n in range(8)]
    rows += [row("a/large", "a", 20.0, label_class=0), row("a/small", "a", 0.5, label_class=0)]
    rows += [row("b/0", "b", predicted=1, label_class=0, probability=0.6)]
    rows += [row("b/1", "b", predicted=1, label_class=0, probability=0.8)]
    found = [(each["name"], each["reasons"]) for each in suspects(add_findings(rows))]
    assert found == [
        ("b/1", ["predicted as class 1"]),
        ("b/0", ["predicted as class 1"]),
        ("a/small", ["polytope smaller than its class's"]),
        ("a/large", ["polytope larger than its class's"]),
    ]
    assert suspects(add_findings(rows[:8])) == []


def test_trust_is_measured_by_quarters_of_the_size():
    rows = [
        row(
            str(n), "a", size=float(n), predicted=int(n >= 6), label_class=0, probability=1 - n / 10
        )
        for n in range(8)
    ]
    trust = measure_trust(add_findings(rows), 0)
    assert [each["num_images"] for each in trust["bins"]] == [2, 2, 2, 2]
    assert [each["agreement"] for each in trust["bins"]] == [1, 1, 1, 0]
    assert trust["bins"][1]["size_range"] == [2, 3]
    assert trust["size_and_hull_probability"] == pytest.approx(-1)
    assert trust["area"] == 1
    assert (trust["num_wrong"], trust["num_judged"]) == (2, 8)


@pytest.mark.parametrize(("label_class", "wrong"), [(0, 0), (5, 1)])
def test_without_right_and_wrong_predictions_there_is_no_area(label_class, wrong):
    trust = measure_trust(add_findings([row("a", "a", label_class=label_class)]), 0)
    assert trust["area"] is None
    assert trust["num_wrong"] == wrong
    assert len(trust["bins"]) == 1
    assert trust["size_and_probability"] is None
