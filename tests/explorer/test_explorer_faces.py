"""The explorer proves edges and triangles, more of them each time it is asked."""

import math

import pytest

from patchcollide.explorer import faces as explorer_faces
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.faces import MOST_CELLS, Faces
from tests.helpers.random_networks import target_of
from tests.proofs.test_hulls import tent, triangle


@pytest.fixture(autouse=True)
def in_a_moment(monkeypatch):
    monkeypatch.setattr(explorer_faces, "SECONDS", 0.1)


def measure(corners) -> float:
    """The length or area of a cell, as a share of the face's."""
    if len(corners) == 2:
        return float(abs(corners[0][0] - corners[1][0]))
    (a, b, c), (d, e, f), (g, h, i) = corners
    return float(abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)))


@pytest.mark.parametrize("vertices", [[0, 1], [2, 0], [0, 1, 2]])
def test_cells_cover_a_face_once_and_say_what_is_proved(client, vertices):
    answer = client.post("api/faces", json={"vertices": vertices})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["vertices"] == sorted(vertices)
    sizes = [measure(cell["corners"]) for cell in found["cells"]]
    assert math.fsum(sizes) == pytest.approx(1)
    proved = [cell["state"] == "proved" for cell in found["cells"]]
    assert found["share_proved"] == pytest.approx(
        math.fsum(s for s, p in zip(sizes, proved, strict=True) if p)
    )
    assert all(
        (cell["margin"] > 0) == is_proved
        for cell, is_proved in zip(found["cells"], proved, strict=True)
    )


@pytest.mark.parametrize(
    "vertices", [[0], [0, 0], [0, 1, 2, 3], [0, 3], [-1, 0], [0, 1.0], [True, 0], "01", None]
)
def test_what_is_no_face_is_refused(client, vertices):
    said = client.refused(400, "POST", "api/faces", json={"vertices": vertices})
    assert said == "The vertices of a face should be two or three different numbers from 0 to 2."


def test_cells_of_another_class_are_told_from_those_that_are_open():
    """The planted class is around (0.9, 0.05) of the plane, near vertex 1."""
    network, vertices = tent((0.9, 0.05), 0.1), triangle()
    bounds = HullBounds.of(network, vertices, target_of(network, vertices), rounding=False)
    faces = Faces(bounds)
    first = faces.prove([0, 1, 2], 0.5)
    more = faces.prove([2, 1, 0], 0.5)
    for _ in range(20):  # On a busy machine half a second is less.
        if "violated" in {cell["state"] for cell in more["cells"]}:
            break
        more = faces.prove([2, 1, 0], 0.5)
    assert 0 < first["share_proved"] <= more["share_proved"] < 1
    assert len(first["cells"]) <= len(more["cells"]) <= MOST_CELLS
    assert {cell["state"] for cell in more["cells"]} >= {"proved", "violated"}
    for cell in more["cells"]:
        middle = [sum(column) / 3 for column in zip(*cell["corners"], strict=True)]
        inside = abs(middle[1] - 0.9) + abs(middle[2] - 0.05) <= 0.1
        assert (cell["state"] == "violated") == inside
    assert faces.prove([0, 2], 0.2)["share_proved"] == 1
