"""Boxes are where vertices differ most, and the figure shows their content enlarged."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from patchcollide.report.boxes import box_size, differing_boxes, differing_pair
from patchcollide.report.figures import write_polytope_figure


def brute_force(vertices, count, size, margin=0):
    """Every position measured pair by pair, the best taken, those it overlaps struck out."""
    values = vertices.astype(int)
    rows, cols = (side - size + 1 for side in vertices.shape[1:3])
    scores = {}
    for row in range(margin, rows - margin):
        for col in range(margin, cols - margin):
            windows = values[:, row : row + size, col : col + size]
            scores[row, col] = sum(((a - b) ** 2).sum() for a, b in combinations(windows, 2))
    chosen: list[list[int]] = []
    while scores and len(chosen) < count:
        best = max(scores, key=lambda place: (scores[place], -place[0], -place[1]))
        if scores[best] == 0:
            break
        chosen.append(list(best))
        scores = {
            place: score
            for place, score in scores.items()
            if max(abs(place[0] - best[0]), abs(place[1] - best[1])) >= size + 2 * margin
        }
    return chosen


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(7, 9, 1), (12, 8, 3), (11, 11, 5), (6, 6, 6)]
)
def test_boxes_are_those_of_trying_all_places(num_vertices, height, width, size, rng):
    vertices = rng.integers(0, 256, (num_vertices, height, width, 3), dtype=np.uint8)
    for margin in (0, 1, 2):
        found = differing_boxes(vertices, count=4, size=size, margin=margin)
        assert found.tolist() == brute_force(vertices, 4, size, margin)


def test_among_equal_boxes_the_first_by_position_wins(rng):
    vertices = np.zeros((2, 8, 8, 3), np.uint8)
    vertices[0] = 7
    found = differing_boxes(vertices, count=9, size=4)
    assert found.tolist() == [[0, 0], [0, 4], [4, 0], [4, 4]] == brute_force(vertices, 9, 4)


def test_the_only_difference_is_boxed_and_nothing_else():
    vertices = np.full((3, 20, 20, 3), 90, np.uint8)
    vertices[1, 12, 5] = 91
    ((row, col),) = differing_boxes(vertices, count=4, size=6)
    assert (row <= 12 < row + 6, col <= 5 < col + 6) == (True, True)


def test_equal_vertices_have_no_boxes():
    assert len(differing_boxes(np.full((5, 9, 9, 3), 200, np.uint8), count=3, size=2)) == 0


@pytest.mark.parametrize("side", [28, 56, 224])
def test_the_pair_is_of_those_that_differ_most_in_means_of_blocks(side, rng):
    vertices = rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    blocks = vertices.astype(float).reshape(4, 28, side // 28, 28, side // 28, 3).mean(axis=(2, 4))
    distances = {(a, b): ((blocks[a] - blocks[b]) ** 2).sum() for a, b in combinations(range(4), 2)}
    assert differing_pair(vertices) == max(distances, key=lambda pair: distances[pair])


@pytest.mark.parametrize(("height", "width"), [(224, 224), (225, 230)])
def test_noise_does_not_decide_which_pair_differs_most(height, width, rng):
    vertices = np.full((3, height, width, 3), 100, np.uint8)
    vertices[0] += rng.choice([0, 90], vertices[0].shape).astype(np.uint8)
    vertices[0] -= 45
    vertices[1, : height // 2] += 20
    vertices[2, height // 2 :] += 20
    assert differing_pair(vertices) == (1, 2)


def test_of_equal_pairs_the_first_is_chosen_and_of_one_image_none():
    assert differing_pair(np.zeros((3, 30, 30, 1), np.uint8)) == (0, 1)
    assert differing_pair(np.zeros((1, 30, 30, 1), np.uint8)) is None


@pytest.mark.parametrize(("count", "size"), [(0, 2), (1, 0), (1, 10)])
def test_boxes_that_cannot_be_are_refused(count, size):
    with pytest.raises(ValueError, match=f"size of 1 to 9, but found {count} and {size}"):
        differing_boxes(np.zeros((2, 9, 12, 3), np.uint8), count=count, size=size)


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
def test_the_figure_shows_boxes_in_purple_and_four_times_as_large(num_vertices, rng, tmp_path):
    vertices = np.full((num_vertices, 224, 224, 3), 128, np.uint8)
    vertices[:, 40:68, 100:128] = rng.integers(0, 256, (num_vertices, 28, 28, 3))
    write_polytope_figure(
        tmp_path / "polytope.png",
        source=vertices[0],
        target=vertices[0],
        vertices=vertices,
        samples=vertices,
        title="Boxes",
        captions=["a class\n0.500"] * (num_vertices + 2),
    )
    figure = np.asarray(Image.open(tmp_path / "polytope.png").convert("RGB"))
    purple = (figure == (0x8A, 0x1F, 0xA8)).all(axis=-1)
    assert purple.any() == (num_vertices > 1)
    assert figure.shape[1] == 20 + (num_vertices + 1) * 224 + num_vertices * 18 + 20
    if num_vertices > 1:
        enlarged = vertices[-1, 40:68, 100:128].repeat(4, axis=0).repeat(4, axis=1)
        # Without its border, where frame and number are.
        inner = enlarged[60:100, 40:100]
        left = figure.shape[1] - 20 - 224 + 40
        strip = figure[:, left : left + 60]
        tops = [top for top in range(len(strip) - 40) if (strip[top : top + 40] == inner).all()]
        assert len(tops) == 1
    assert box_size(vertices) == 28


def test_a_figures_captions_must_match_its_vertices(rng, tmp_path):
    vertices = rng.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="Expected 4 captions, but found 1"):
        write_polytope_figure(
            tmp_path / "polytope.png",
            source=vertices[0],
            target=vertices[0],
            vertices=vertices,
            samples=vertices[:0],
            title="",
            captions=["a"],
        )
    assert not list(tmp_path.iterdir())
