"""The explorer answers as an evaluation does, and bad input with a sentence."""

import base64
import io
import json
import logging
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from patchcollide.explorer.points import MEMBERSHIP_TOLERANCE
from patchcollide.images.pictures import read_png, read_square
from patchcollide.runs.folder import open_run
from patchcollide.runs.networks import network_of
from patchcollide.runs.summary import read_summary
from tests.helpers.exploring import CENTRE, picture
from tests.helpers.presence import present


@pytest.fixture(scope="module")
def run(explored_run):
    return open_run(explored_run)


@pytest.fixture(scope="module")
def network(run):
    return network_of(run)


def vertices_of(run):
    return np.stack([read_png(run / f"vertex-{number}.png") for number in range(3)])


def slow_point(run, weights):
    """The combination, pixel by pixel in float64; and where it is no tie of rounding."""
    exact = np.tensordot(np.array(weights), vertices_of(run).astype(np.float64), axes=1)
    return np.rint(exact), np.abs(exact - np.floor(exact) - 0.5) > 1e-3


def read_picture(png):
    return np.atleast_3d(np.asarray(Image.open(io.BytesIO(png))))


@pytest.mark.parametrize("weights", [[1, 0, 0], [0, 0, 1], CENTRE, [0.1, 0.2, 0.7]])
def test_a_point_is_the_combination_rounded_to_8_bits(weights, client, run):
    answer = client.get("point.png", params={"weights": ",".join(map(str, weights))})
    assert answer.headers["content-type"] == "image/png"
    found = read_picture(answer.content)
    expected, clear = slow_point(run, weights)
    assert clear.mean() > 0.4
    np.testing.assert_array_equal(found[clear], expected[clear])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shares=st.lists(st.integers(0, 1000), min_size=3, max_size=3).filter(any))
def test_the_network_answers_for_a_point_as_it_does_for_its_picture(shares, client, run, network):
    weights = (np.array(shares) / np.sum(shares)).tolist()
    found = client.point(weights).json()
    text = ",".join(map(repr, weights))
    image = read_picture(client.get("point.png", params={"weights": text}).content)
    assert_describes(found, image, run, network)


def assert_describes(found, image, run, network):
    """Holds an answer against plain loops over units and pixels in float64."""
    batch = torch.tensor(np.array(image)).permute(2, 0, 1)[None] / 255
    output = network(batch)
    probabilities = output.probabilities[0]
    order = probabilities.argsort(descending=True)
    assert [row["probability"] for row in found["top"]] == pytest.approx(
        probabilities[order[:5]].tolist(), rel=1e-5
    )
    assert {row["class"] for row in found["top"]} == set(order[:5].tolist())
    assert [row["class_name"] for row in found["top"]] == [
        str(row["class"]) for row in found["top"]
    ]

    goal = torch.tensor(read_png(run / "target.png")).permute(2, 0, 1)[None] / 255
    of_target = network(goal)
    target_class = int(of_target.probabilities.argmax())
    assert found["target"]["class"] == target_class
    assert found["target"]["probability"] == pytest.approx(float(probabilities[target_class]))
    assert found["membership"]["collides_class"] == (int(order[0]) == target_class)

    z, t = output.pre_activation[0].double(), of_target.pre_activation[0].double()
    on = t > 0
    away = (z.relu() - t.relu()).abs()
    level = float(t[on].mean())
    gap = float(away[on].mean())
    assert found["gaps"]["active_feature_gap_mean"] == pytest.approx(gap, rel=1e-4, abs=1e-6)
    assert found["gaps"]["active_feature_gap_mean_relative"] == pytest.approx(
        gap / level, rel=1e-4, abs=1e-6
    )
    shown = float((z[~on] > 0).double().mean())
    assert found["gaps"]["inactive_response_share"] == pytest.approx(shown, abs=0.01)
    distance, norm = float(away.norm()), float(t.relu().norm())
    assert found["gaps"]["feature_distance"] == pytest.approx(distance, rel=1e-4, abs=1e-5)
    tau = found["gaps"]["feature_distance_relative"]
    assert tau == pytest.approx(distance / norm, rel=1e-4, abs=1e-5)
    called = "feature collision" if distance <= 0.1 * norm else "class collision"
    same = int(order[0]) == target_class
    assert found["membership"]["verdict"] == (called if same else "none")

    tolerance = MEMBERSHIP_TOLERANCE * norm / float(on.sum()) ** 0.5
    assert found["membership"]["tolerance"] == pytest.approx(tolerance, rel=1e-5)
    assert found["membership"]["inside"] == (float(away.max()) <= tolerance)

    def far_from(other):
        return float(np.linalg.norm(image.astype(np.float64) - other))

    assert found["distances"]["source"] == pytest.approx(
        far_from(read_png(run / "source.png")), rel=1e-4
    )
    distances = [far_from(vertex) for vertex in vertices_of(run)]
    assert found["distances"]["nearest_vertex"] == pytest.approx(min(distances), rel=1e-4, abs=1e-3)
    number = found["distances"]["nearest_vertex_number"]
    assert distances[number] == pytest.approx(min(distances), rel=1e-4, abs=1e-3)
    assert found["milliseconds"] > 0


def test_vertices_are_answered_as_the_summary_has_them(client, run):
    vertices: list[Any] = read_summary(run)["vertices"]
    for number, vertex in enumerate(vertices):
        found = client.point([float(place == number) for place in range(3)]).json()
        assert found["top"][0]["class"] == vertex["class"]
        assert found["top"][0]["probability"] == pytest.approx(vertex["probability"], rel=1e-5)
        for name, value in found["gaps"].items():
            assert value == pytest.approx(vertex[name], rel=1e-4, abs=1e-6)
        assert found["distances"]["nearest_vertex"] == 0


def test_images_of_the_data_set_stand_beside_a_point(client, run):
    others = present(read_summary(run)["certificate"]["others"])
    nearest = min(map(present, others["controls"].values()))
    found = client.point(CENTRE).json()
    tau = found["gaps"]["feature_distance_relative"]
    assert found["others"] == {
        "num_images": others["num_images"],
        "num_nearer": sum(other < tau for other in others["distances"]),
        "nearest_control": nearest,
        "is_near": tau < nearest,
    }


def test_the_target_itself_is_inside(client, run):
    found = client.post("api/compare", content=(run / "target.png").read_bytes()).json()
    assert found["membership"]["inside"]
    assert found["membership"]["collides_class"]
    assert found["membership"]["verdict"] == "feature collision"
    assert found["gaps"]["active_feature_gap_max"] == 0
    assert found["gaps"]["feature_distance"] == 0
    others = found["others"]
    assert (others["num_nearer"], others["is_near"]) == (0, True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_fitted_as_a_source_and_compared(kind, client, run, network, tmp_path):
    data = picture(3, side=61, kind=kind)
    (tmp_path / "any").write_bytes(data)
    found = client.post("api/compare", content=data).json()
    head, _, encoded = found["picture"].partition(",")
    assert head == "data:image/png;base64"
    image = read_picture(base64.b64decode(encoded))
    np.testing.assert_array_equal(image, read_square(run.config, tmp_path / "any", 28, 1))
    assert_describes(found, image, run, network)


def test_many_points_at_once_are_answered_right(client):
    weights = [[share, 0.5 - share, 0.5] for share in np.linspace(0, 0.5, 20).tolist()]
    alone = [client.point(point).json() for point in weights]
    with ThreadPoolExecutor(20) as threads:
        together = list(threads.map(client.point, weights))
    assert [answer.status_code for answer in together] == [200] * 20
    for one, answer in zip(alone, together, strict=True):
        assert answer.json()["top"] == one["top"]
        assert answer.json()["gaps"] == one["gaps"]


def test_the_page_and_its_parts_are_there(client, run):
    page = client.get("")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("source.png", "target.png", "vertex-0.png", "vertex-2.png"):
        assert client.get(f"pictures/{name}").content == (run / name).read_bytes()
    assert client.get("report.html").content == (run / "report.html").read_bytes()
    assert client.get("static/style.css").headers["content-type"].startswith("text/css")
    assert client.get("static/explorer.js").headers["content-type"].startswith("text/javascript")


class Controls(HTMLParser):
    """The controls of a page, and what names them."""

    def __init__(self, page):
        super().__init__()
        self.inside_label, self.named, self.unnamed, self.images, self.data = False, 0, [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.inside_label = self.inside_label or tag == "label"
        if tag == "input" and not (self.inside_label or "aria-label" in attributes):
            self.unnamed.append(attributes)
        self.named += tag == "input"
        if tag == "img":
            self.images.append(attributes)
        self.data = json.loads(attributes["data-explorer"]) if tag == "main" else self.data

    def handle_endtag(self, tag):
        self.inside_label = self.inside_label and tag != "label"


def test_the_page_has_a_name_for_each_control_and_a_tour_of_the_vertices(client):
    page = client.get("").text
    controls = Controls(page)
    assert controls.named == 3 + 1 + 3, "sliders, the tour, files"
    assert controls.unnamed == []
    assert all("alt" in image for image in controls.images)
    assert sum("data-vertex" in image for image in controls.images) == 3
    data = present(controls.data)
    assert data["root"] == ""
    assert data["maxBytes"] == 20_000_000
    tour = np.array(data["tour"])
    assert tour.shape[1] == 3
    np.testing.assert_allclose(tour.sum(axis=1), 1, atol=1e-5)
    assert len(tour) == 1 + len(data["legs"]) * data["pointsPerLeg"]
    assert page.count('role="status"') == 4
    assert page.count('role="alert"') == 6
    for image in controls.images:
        if "src" in image:
            assert client.get(image["src"]).status_code == 200
    for name in re.findall(r'(?:href|src)="(static/[^"]+)"', page):
        assert client.get(name).status_code == 200


def bomb():
    """A small PNG that claims 60,000 x 60,000 pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1] + [0] * 9_999, r"should be 3 weights, but there are 10000\.$"),
        ([1, 0], r"should be 3 weights, but there are 2\.$"),
        ([], r"but there are 0\.$"),
        ([0.5, 0.4, 0], r"should add up to 1 within 1e-06, but add up to 0\.9\.$"),
        ([1.5, -0.5, 0], r"No weight should be negative, but one is -0\.5\.$"),
        ([1, "x", 0], "should be finite numbers, but one is none"),
        ([1, None, 0], "should be finite numbers, but one is none"),
        ([True, 0, 0], "should be finite numbers, but one is none"),
        ([10**400, 0, 0], "should be finite numbers, but one is none"),
        ([[1], 0, 0], "should be finite numbers, but one is none"),
        ({"0": 1}, "should be a list of numbers, but are a dict"),
        ("1,0,0", "should be a list of numbers, but are a str"),
        (None, "should be a list of numbers, but are a NoneType"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message, client):
    body = json.dumps({"weights": weights})
    with pytest.raises(ValueError, match=message):
        raise ValueError(client.refused(400, "POST", "api/point", content=body))
    assert client.point(CENTRE).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "should hold a JSON object, but it is empty"),
        (b"weights", 400, "should be JSON, but it is not"),
        (b'{"weights": [NaN, 1, 0]}', 400, "NaN is no number of JSON"),
        (b'{"weights": [Infinity, 0, 0]}', 400, "Infinity is no number of JSON"),
        (b'{"weights": [1e999, 0, 0]}', 400, r"should be finite numbers\.$"),
        (b"[" * 60_000, 400, "should be JSON, but it is not"),
        (b"\xff\xfe\x00", 400, "should be JSON, but it is not"),
        (b"[1, 0, 0]", 400, 'JSON object with "weights", but has list'),
        (b'{"weight": 1}', 400, "but has no 'weights'"),
        (b" " * 65_537, 413, "a JSON object of at most 65536 bytes, but holds more"),
    ],
)
def test_a_body_that_is_no_point_is_refused(body, status, message, client):
    with pytest.raises(ValueError, match=message):
        raise ValueError(client.refused(status, "POST", "api/point", content=body))
    assert client.point(CENTRE).status_code == 200


@pytest.mark.parametrize(
    "text", ["", "1", "1,0", "1,0,0,0", "nan,0,1", "1,0,x", "2,-1,0", "," * 9999]
)
def test_a_picture_of_no_point_is_refused(text, client):
    assert "weight" in client.refused(400, "GET", "point.png", params={"weights": text})


@pytest.mark.parametrize("path", ["api/compare", "api/uploads"])
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "should hold a picture, but it is empty"),
        (b"These are words.", 400, "cannot be used: not an image of a known format"),
        (bomb(), 400, "cannot be used: too many pixels: 60000 x 60000"),
        (picture()[:200], 400, "cannot be used: truncated"),
        (b"GIF89a" + bytes(100), 400, r"cannot be used: damaged \(image not found"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 400, "not an image of a known format"),
        (bytes(20_000_001), 413, "a picture of at most 20000000 bytes, but holds more"),
    ],
    ids=["empty", "text", "bomb", "truncated", "gif", "svg", "large"],
)
def test_what_is_no_picture_is_refused(path, body, status, message, client):
    with pytest.raises(ValueError, match=message) as caught:
        raise ValueError(client.refused(status, "POST", path, content=body))
    assert "/" not in str(caught.value), "a path of this machine"
    assert client.point(CENTRE).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "api/point"), ("POST", ""), ("PUT", "api/uploads"), ("DELETE", "api/collisions")],
)
def test_another_method_is_refused(method, path, client):
    assert client.refused(405, method, path) == f"This address does not take {method}."


def test_a_defect_is_logged_and_told_in_a_sentence(client, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret inner state")

    monkeypatch.setattr("patchcollide.explorer.points.measure_gaps", broken)
    with caplog.at_level(logging.ERROR):
        sentence = client.refused(500, "POST", "api/point", json={"weights": CENTRE})
    assert "defect" in sentence
    assert "secret" not in sentence
    assert "secret inner state" in caplog.text
    monkeypatch.undo()
    assert client.point(CENTRE).status_code == 200
