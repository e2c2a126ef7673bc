"""Figures and contact sheets show every picture without a change."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from patchcollide.report.charts import draw_history
from patchcollide.report.figures import (
    caption,
    write_contact_sheet,
    write_figure,
    write_polytope_figure,
)
from tests.helpers.pages import history_of, random_images


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def rng():
    return np.random.default_rng(20190908)


def figure_of(path, vertices, *, source=None, target=None, captions=None):
    """Draws vertices, beside the first of them where no other source or target is given."""
    write_figure(
        path,
        source=vertices[0] if source is None else source,
        target=vertices[0] if target is None else target,
        vertices=vertices,
        title="A $title",
        captions=["7\n1.000"] * (len(vertices) + 2) if captions is None else captions,
    )
    return read(path)


@pytest.mark.parametrize("num_vertices", [1, 2, 5, 8])
def test_a_figure_shows_every_picture_unresampled(num_vertices, rng, tmp_path):
    source, target = random_images(rng, 224, 224), random_images(rng, 224, 224)
    vertices = random_images(rng, num_vertices, 224, 224)
    captions = [caption("a class, a synonym", 0.5)] * (num_vertices + 2)
    path = tmp_path / "figure.png"
    figure = figure_of(path, vertices, source=source, target=target, captions=captions)
    assert figure.shape[1] == 20 + (num_vertices + 1) * 224 + num_vertices * 18 + 110
    windows = np.lib.stride_tricks.sliding_window_view(figure, (1, 224, 3))[..., 0, 0, :, :]
    for picture in [source, target, *vertices]:
        found = (windows[:, 20::242] == picture[0]).all(axis=(2, 3))
        assert found.any(), "the first line of a picture is nowhere in the figure"


def test_small_pictures_are_enlarged_by_a_whole_number(rng, tmp_path):
    vertices = random_images(rng, 2, 28, 28)
    figure = figure_of(tmp_path / "figure.png", vertices, target=vertices[1])
    enlarged = vertices[0].repeat(8, axis=0).repeat(8, axis=1)
    tops = np.flatnonzero((figure[:, 20:244] == enlarged[0]).all(axis=(1, 2)))
    assert (figure[tops[0] : tops[0] + 224, 20:244] == enlarged).all()


def test_the_heat_map_is_dark_where_vertices_agree_and_bright_where_not(tmp_path):
    vertices = np.full((2, 224, 224, 3), 100, np.uint8)
    vertices[0, :, 112:] = 160
    figure = figure_of(tmp_path / "figure.png", vertices)
    line = figure[-150, 262 : 262 + 224].astype(int).sum(axis=1)
    assert line[:100].max() < 100
    assert line[124:].min() > 500


def test_purple_boxes_mark_on_every_vertex_where_they_differ(tmp_path):
    vertices = np.full((2, 224, 224, 3), 100, np.uint8)
    vertices[0, 60:88, 140:168] = 160
    figure = figure_of(tmp_path / "figure.png", vertices)
    purple = (figure == (0x8A, 0x1F, 0xA8)).all(axis=-1)
    for left in (20 + 242, 20 + 2 * 242):
        rows, cols = np.nonzero(purple[:, left : left + 224])
        # Around the square, on a line of three pixels.
        assert 28 <= np.ptp(cols) <= 36
        assert abs(cols.mean() - 153.5) < 1
        assert 28 <= np.ptp(rows) <= 36
    assert not purple[:, :244].any()


def test_captions_must_match_the_vertices(rng, tmp_path):
    vertices = random_images(rng, 2, 28, 28)
    with pytest.raises(ValueError, match="Expected 4 captions, but found 3"):
        figure_of(tmp_path / "figure.png", vertices, captions=["a"] * 3)
    assert not list(tmp_path.iterdir())


def contact_sheet(rng, path, *, k, rows, cols, window_px=8, **options):
    grid = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    locations = 6 * np.stack(grid, axis=-1).reshape(-1, 2).astype(np.int64)
    squared = np.sort(rng.integers(0, 10_000, (rows * cols, k)), axis=1).astype(np.int64)
    write_contact_sheet(
        path,
        source=random_images(np.random.default_rng(1), 64, 64),
        patches=random_images(np.random.default_rng(2), rows * cols, k, 8, 8),
        squared_distances=squared,
        locations=locations,
        window_px=window_px,
        **options,
    )
    return read(path)


@pytest.mark.parametrize(("k", "rows", "cols"), [(1, 1, 1), (1, 2, 1), (3, 5, 7)])
def test_a_contact_sheet_has_a_row_for_each_location_shown(k, rows, cols, rng, tmp_path):
    sheet = contact_sheet(rng, tmp_path / "sheet.png", k=k, rows=rows, cols=cols)
    assert sheet.shape[:2] == (48 + min(rows * cols, 12) * 200, 36 + (k + 2) * 140)


def test_a_contact_sheet_shows_at_most_what_was_asked_for(rng, tmp_path):
    path = tmp_path / "sheet.png"
    sheet = contact_sheet(rng, path, k=6, rows=5, cols=5, num_locations=4, num_neighbours=2)
    assert sheet.shape[:2] == (48 + 4 * 200, 36 + 4 * 140)


def test_a_missing_neighbour_leaves_its_place_empty(tmp_path):
    path = tmp_path / "sheet.png"
    write_contact_sheet(
        path,
        source=np.zeros((16, 16, 3), np.uint8),
        patches=np.zeros((1, 2, 8, 8, 3), np.uint8),
        squared_distances=np.array([[0, -1]], np.int64),
        locations=np.zeros((1, 2), np.int64),
        window_px=8,
    )
    line = read(path)[48 + 64]
    assert (line[12 + 2 * 140 + 24 + 64] == 0).all()
    assert (line[12 + 3 * 140 + 24 + 64] == 255).all()


def words_in(path):
    """The texts of a drawing, whose letters are outlines; matplotlib notes each."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


def test_a_contact_sheet_names_units_and_images(rng, tmp_path):
    names = [["a/first-001.png", "b/a-very-long-name-indeed-002.png"]]
    write_contact_sheet(
        tmp_path / "sheet.svg",
        source=random_images(rng, 16, 16),
        patches=random_images(rng, 1, 2, 8, 8),
        squared_distances=np.array([[1234**2, -1]], np.int64),
        locations=np.array([[3, 5]], np.int64),
        window_px=8,
        names=names,
    )
    words = " ".join(words_in(tmp_path / "sheet.svg"))
    assert "L2 of pixels in 0..255" in words
    assert "1: L2 1,234" in words
    assert "first-001" in words
    assert "row 3, col 5 px" in words
    assert "none" in words
    assert "indeed" not in words


def test_samples_are_captioned_where_it_is_known_what_they_are(rng, tmp_path):
    vertices = random_images(rng, 2, 28, 28)
    for said in ([], ["a thing\n0.875", "another\n0.625"]):
        write_polytope_figure(
            tmp_path / "polytope.svg",
            source=vertices[0],
            target=None,
            vertices=vertices,
            samples=vertices,
            title="Samples",
            captions=["a class\n0.500"] * 4,
            sample_captions=said,
        )
        words = words_in(tmp_path / "polytope.svg")
        assert ("0.875" in words, "0.625" in words) == (bool(said), bool(said))


@pytest.mark.parametrize("num_vertices", [2, 5])
@pytest.mark.parametrize("side", [28, 56, 224])
def test_boxes_stay_inside_pictures_and_clear_of_each_other(num_vertices, side, rng, tmp_path):
    vertices = random_images(rng, num_vertices, side, side)
    # The corners differ most, and two places side by side.
    vertices[:, 8:-8, 8:-8] //= 2
    figure = figure_of(tmp_path / "figure.png", vertices)
    purple = (figure == (0x8A, 0x1F, 0xA8)).all(axis=-1)
    for number in range(num_vertices):
        left = 20 + (number + 1) * 242
        beside = np.r_[left - 18 : left, left + 224 : left + 242]
        assert not purple[:, beside[beside < figure.shape[1]]].any()
    rows = np.flatnonzero(purple.any(axis=1))
    assert np.ptp(rows) < 224
    picture = purple[rows[0] : rows[-1] + 1, 262 : 262 + 224]
    assert ndimage.label(picture, structure=np.ones((3, 3)))[1] == 4, "outlines touch"


def test_fonts_of_vector_figures_are_type_42_and_equal_figures_equal_files(rng, tmp_path):
    vertices = random_images(rng, 2, 28, 28)
    for suffix in ("pdf", "svg"):
        paths = [tmp_path / f"{name}.{suffix}" for name in ("one", "other")]
        for path in paths:
            write_figure(
                path,
                source=vertices[0],
                target=vertices[1],
                vertices=vertices,
                title="A title",
                captions=["7\n1.000"] * 4,
            )
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"/CIDFontType2" in paths[0].with_suffix(".pdf").read_bytes()
    assert b"/Type3" not in paths[0].with_suffix(".pdf").read_bytes()
    assert b"<text" not in paths[0].read_bytes()


def test_equal_inputs_give_equal_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png")]
    for path in paths[:2]:
        contact_sheet(np.random.default_rng(3), path, k=2, rows=2, cols=2)
    for path in paths[2:]:
        vertices = random_images(np.random.default_rng(4), 3, 32, 32)
        figure_of(path, vertices, target=vertices[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[2].read_bytes() == paths[3].read_bytes()
    assert draw_history(history_of(9)) == draw_history(history_of(9))
