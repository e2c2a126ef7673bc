"""The charts of a history."""

import re

import numpy as np
import pytest

from patchcollide.evaluation.samples import HullSamples
from patchcollide.report import charts
from patchcollide.report.charts import draw_history, draw_samples, write_growth_chart
from patchcollide.report.sheet import Figure
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


def test_features_are_followed_where_they_are_known_and_else_the_loss():
    steps = [{"step": float(step), "loss": -1.0 - step, "tau": 0.5 / (1 + step)} for step in (0, 1)]
    followed = draw_history(steps)
    assert (">Features: tau<" in followed, ">Loss<" in followed) == (True, False)
    without = draw_history([{"step": row["step"], "loss": row["loss"]} for row in steps])
    assert (">Features: tau<" in without, ">Loss<" in without) == (False, True)


@pytest.mark.parametrize("scale", [-1e5, 1e-7, 270.0, 3e8])
def test_nothing_of_a_chart_is_cut_off_or_covered(scale, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(charts, "inline_svg", lambda figure, *_: drawn.append(figure) or "")
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, **_: drawn.append(self) or path.touch()
    )
    history = [
        {name: value and scale * value for name, value in row.items()} for row in history_of(9)
    ]
    draw_history(history)
    values = np.linspace(0, 1, 2000, dtype=np.float32)
    numbers = np.zeros(2000, np.int64)
    hull = HullSamples(np.ones((2000, 1)), numbers, values, values, 1.3 * values)
    draw_samples(hull, hull, 0.5)
    series = {
        f"search {name}": [(1000, abs(scale), 10**9), (2000, 9.0, 10**10)] for name in range(7)
    }
    write_growth_chart(tmp_path / "growth.png", series)
    assert len(drawn) == 6
    for figure in drawn:
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) >= 0
        assert box.y1 <= height
        assert box.x1 <= width
        axes = figure.axes[0].get_tightbbox()
        assert all(legend.get_window_extent().y1 <= axes.y0 + 1 for legend in figure.legends)
