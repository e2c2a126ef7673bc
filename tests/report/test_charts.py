"""The charts of a history."""

import re

import pytest

from patchcollide.report.charts import draw_history
from tests.helpers.pages import history_of


@pytest.mark.parametrize("num_steps", [0, 1, 2, 30])
def test_a_history_is_three_charts_that_stand_on_their_own(num_steps):
    svg = draw_history(history_of(num_steps))
    assert svg.count("<svg") == 3
    assert "http" not in svg
    assert "<style" not in svg
    names = re.findall(r'\bid="([^"]+)"', svg)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= set(names)


def test_a_history_leaves_out_what_was_not_recorded():
    svg = draw_history([{"step": 0.0, "loss": 3.0}, {"step": 1.0, "loss": 1.0, "active": ""}])
    assert ">loss<" in svg
    assert ">active<" not in svg
    assert svg.count("not recorded") == 2
