"""A polytope draws itself against the yardstick, and gives its figures as a row."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import InputError, MissingLibraryError, RunError
from patchcollide.polytope import Polytope
from patchcollide.report.frames import row_of
from patchcollide.report.plots import Plotted, draw_yardstick
from tests.helpers.pages import summary_of, tightness_of


class Measured(Plotted):
    def __init__(self, summary):
        self.summary = summary


def measured():
    return Measured(summary_of(5, tightness=tightness_of()))


def test_a_polytope_is_such_a_thing():
    assert issubclass(Polytope, Plotted)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_yardstick_is_drawn_and_written(suffix, tmp_path):
    figure = measured().plot(tmp_path / f"a.{suffix}")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "vertices and all samples between: 0.032 to 0.37" in words
    assert "moved by 4 px: 0.27" in words
    assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_notebooks_show_the_figure():
    figure: Any = draw_yardstick(measured().summary)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_no_label_of_the_figure_stands_on_another_or_outside(tmp_path):
    figure = measured().plot(tmp_path / "a.png")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert (picture == (0x00, 0x72, 0xB2)).all(axis=-1).any()


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.gif should end in \.png or \.pdf or \.svg"):
        measured().plot(tmp_path / "a.gif")
    with pytest.raises(RunError, match=r"Call its evaluate\(\) first"):
        Measured(None).plot()
    with pytest.raises(RunError, match="was not measured of this run"):
        draw_yardstick(summary_of())


def test_a_row_has_every_figure_that_is_no_list():
    summary = summary_of(tightness=tightness_of())
    row = row_of(summary)
    assert row["tightness.hull.tau_max"] == 0.3649
    assert row["success_rate"] == summary["success_rate"]
    assert row["seconds.optimise"] == 345.6
    assert not any(isinstance(value, list | dict) for value in row.values())


def test_rows_are_of_pandas_which_is_an_extra(monkeypatch):
    pandas = SimpleNamespace(DataFrame=list)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert measured().to_frame() == [row_of(measured().summary)]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'patchcollide\[frames\]'"):
        measured().to_frame()


def test_rows_of_several_runs_are_joined_by_pandas():
    pandas = pytest.importorskip("pandas")
    other = Measured(summary_of(5, tightness=tightness_of("class collision")))
    joined = pandas.concat([measured().to_frame(), other.to_frame()])
    assert list(joined["tightness.verdict"]) == ["feature collision", "class collision"]
    assert list(joined["tightness.hull.tau_max"]) == [0.3649, 0.3649]
