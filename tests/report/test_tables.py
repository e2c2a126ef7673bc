"""The table that compares a run with the paper's."""

import pytest

from patchcollide.report.tables import PAPER_ROWS, comparison_rows
from tests.helpers.pages import summary_of


def test_the_papers_rows_are_as_printed():
    assert [row.vertex_distance for row in PAPER_ROWS] == [1.33, 1.28, 4906.56, 8597.34, 9587.92]
    assert [row.target_probability for row in PAPER_ROWS] == [1.0, 1.0, 0.993, 0.952, 0.999]
    assert [row.sample_probability for row in PAPER_ROWS] == [1.0, 1.0, 0.995, 0.877, 0.800]
    assert {row.dataset_distance for row in PAPER_ROWS} == {10.21, 37538.22}
    assert not any(row.is_ours for row in PAPER_ROWS)


def test_our_row_comes_last_with_the_share_of_the_data_sets_distance():
    *_, ours = comparison_rows(summary_of(), of_digits=False)
    assert ours.is_ours
    assert ours.sample_probability == 0.8004
    assert ours.distance_share == pytest.approx(7212.34 / 37538.22)


@pytest.mark.parametrize("of_digits", [False, True])
def test_digits_stand_beside_digits_and_photographs_beside_photographs(of_digits):
    *papers, _ = comparison_rows(summary_of(), of_digits=of_digits)
    assert [row.setting.startswith("MNIST") for row in papers] == [of_digits] * len(papers)
    both = [*comparison_rows(summary_of(), of_digits=not of_digits)[:-1], *papers]
    assert {row.origin for row in both} == {row.origin for row in PAPER_ROWS}


@pytest.mark.parametrize("distance", [None, float("nan"), 0.0])
def test_a_share_of_an_unknown_distance_is_unknown(distance):
    assert (
        comparison_rows(summary_of(dataset_distance_mean=distance), of_digits=False)[
            -1
        ].distance_share
        is None
    )


def test_a_single_vertex_has_no_distance():
    ours = comparison_rows(summary_of(1, vertex_distance_mean=0.0), of_digits=True)[-1]
    assert ours.vertex_distance is None
