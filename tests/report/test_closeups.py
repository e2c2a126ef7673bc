"""The page's first pictures: the pair that differs most, and places of all vertices."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from patchcollide.report.closeups import make_closeups


def pixels_of(picture):
    png = base64.b64decode(picture.uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("side", [28, 225])
def test_crops_are_the_vertices_own_pixels_where_the_page_says(side, rng):
    vertices = rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    found = make_closeups(vertices)
    assert len(found.crops) == 3
    size = side // 8
    for crop in found.crops:
        row, col = round(crop.top * side / 100), round(crop.left * side / 100)
        assert (crop.width, crop.height) == pytest.approx((100 * size / side,) * 2)
        shown = np.stack([pixels_of(picture) for picture in crop.pictures])
        np.testing.assert_array_equal(
            shown.reshape(3, size, size, -1), vertices[:, row : row + size, col : col + size]
        )


def test_crops_neither_touch_each_other_nor_the_border(rng):
    vertices = np.full((2, 224, 224, 1), 100, np.uint8)
    vertices[0, :40, :70] = rng.integers(0, 256, (40, 70, 1))
    crops = make_closeups(vertices).crops
    places = np.array([[crop.top, crop.left] for crop in crops])
    assert len(places) >= 2
    apart = np.abs(places[:, None] - places[None]).max(axis=-1)
    assert (apart[~np.eye(len(places), dtype=bool)] > crops[0].width + 1).all()
    assert (places > 0).all()


@pytest.mark.parametrize(("side", "shown"), [(28, 28), (225, 64)])
def test_the_map_of_crops_is_the_first_large_vertex_in_small(side, shown):
    vertices = np.full((3, side, side, 1), 50, np.uint8)
    vertices[1] = 130
    vertices[1, : side // 2] = 90
    found = make_closeups(vertices)
    assert found.pair == (0, 1)
    vertices[0, : side // 2] = 10
    pixels = pixels_of(make_closeups(vertices).map)
    assert pixels.shape[:2] == (shown, shown)
    assert (pixels[1, 1].max(), pixels[-2, 1].max()) == (10, 50)


def test_maps_are_black_where_vertices_are_equal_and_bright_where_not():
    vertices = np.full((2, 32, 32, 3), 50, np.uint8)
    vertices[1, 8:24, 8:24] = 250
    found = make_closeups(vertices)
    shown = pixels_of(found.differences[0]).astype(int)
    assert shown[0, 0].sum() < 10
    assert shown[16, 16].sum() > 500
    assert found.largest == pytest.approx(100 * np.sqrt(3))


def test_a_vertex_alone_is_shown_alone(rng):
    found = make_closeups(rng.integers(0, 256, (1, 28, 28, 3), dtype=np.uint8))
    assert (found.pair, found.crops) == ((0,), ())
