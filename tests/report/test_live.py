import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from patchcollide.composition.contributions import contributions_of
from patchcollide.composition.mixing import tent_logits
from patchcollide.evaluation.samples import HullSamples, interpolate, joined
from patchcollide.evaluation.simplex import tour
from patchcollide.geometry import Canvas, PatchGrid
from patchcollide.report.charts import draw_samples
from patchcollide.report.live import THUMB_PX, contributions_data, make_live, origins_of, sprite_of
from patchcollide.report.templates import page_script
from patchcollide.retrieval.neighbours import Neighbours, Omissions
from tests.helpers.presence import present

GRID = PatchGrid(14, 6, 4, 6)
PER_IMAGE = 9


def samples_of(weights, rng):
    count = len(weights)
    return HullSamples(
        weights=weights,
        classes=rng.integers(3, 5, count),
        probabilities=rng.random(count, np.float32),
        target_probabilities=rng.random(count, np.float32),
        feature_distances=rng.random(count, np.float32),
    )


def sample_sets(num_vertices, rng):
    return {
        "hull": samples_of(rng.dirichlet(np.ones(num_vertices), 30), rng),
        "tour": samples_of(tour(num_vertices, 4), rng),
        "check": samples_of(rng.dirichlet(np.ones(num_vertices), 10), rng),
    }


def summary_of(num_vertices, name="<b>cat</b>"):
    return {
        "num_vertices": num_vertices,
        "target_class_name": name,
        "sample_classes": [{"class": 3, "class_name": name}, {"class": 4, "class_name": "dog"}],
    }


@pytest.fixture
def neighbours(rng):
    # The fourth patch of a location is its third again; the last is of an image without a name.
    ids = np.stack([rng.permutation(4 * PER_IMAGE)[:3] for _ in range(9)])
    return Neighbours(
        source=rng.integers(0, 256, (14, 14, 3), np.uint8),
        grid=GRID,
        ids=ids,
        squared_distances=np.sort(rng.integers(0, 99, (9, 3)), axis=1),
        proven=np.ones(9, bool),
        patches=rng.integers(0, 256, (9, 3, 6, 6, 3), np.uint8),
        margin=0,
        image_names={0: "a.png", 1: "b.png", 2: "c.png"},
        omissions=Omissions(0, 0, 0),
    )


@pytest.fixture
def contributions(generator):
    import torch

    logits = torch.randn(2, 3, 3, 3, 2, 2, generator=generator)
    return contributions_of(logits, tent_logits(6), Canvas(14, 6, 4, 0), num_blocks=5, most=4)


def test_the_shares_of_images_are_the_sums_over_their_patches(contributions, neighbours):
    origins = origins_of(contributions, neighbours, PER_IMAGE)
    assert sum(origin.share for origin in origins) == pytest.approx(1, abs=1e-5)
    assert sum(origin.num_patches for origin in origins) == 27
    assert [o.share for o in origins] == sorted((o.share for o in origins), reverse=True)
    for origin in origins:
        number = {name: key for key, name in neighbours.image_names.items()}.get(origin.name, 3)
        expected = sum(
            contributions.shares[vertex, location, rank] / 2
            for vertex in range(2)
            for location in range(9)
            for rank in range(3)
            if neighbours.ids[location, rank] // PER_IMAGE == number
        )
        assert origin.share == pytest.approx(expected, rel=1e-5)
    assert "an image without a name" in {origin.name for origin in origins}


def test_fewer_neighbours_may_be_composed_than_there_are(contributions, neighbours):
    fewer = type(contributions)(
        contributions.locations,
        np.zeros_like(contributions.ranks),
        contributions.parts,
        contributions.shares[:, :, :1],
    )
    assert sum(o.num_patches for o in origins_of(fewer, neighbours, PER_IMAGE)) == 9
    data, chosen = contributions_data(fewer, neighbours, PER_IMAGE)
    assert (chosen[:, 1] == 0).all()
    assert len(data["images"]) == len(chosen)


def test_the_page_is_told_each_blocks_patches_and_their_images(contributions, neighbours):
    data, chosen = contributions_data(contributions, neighbours, PER_IMAGE)
    assert (data["blocks"], data["most"]) == (5, 4)
    places = np.ndindex(contributions.parts.shape)
    for place, patch, part in zip(places, data["patches"], data["parts"], strict=True):
        location, rank = chosen[patch]
        assert location == contributions.locations[place]
        assert rank == contributions.ranks[place]
        assert part == pytest.approx(1000 * contributions.parts[place], abs=0.51)
        number = int(neighbours.ids[location, rank] // PER_IMAGE)
        name = data["names"][data["images"][patch]]
        assert name == neighbours.image_names.get(number, "an image without a name")


def test_the_sprite_shows_patches_where_the_data_says(contributions, neighbours):
    # Of one colour each, which a JPEG keeps.
    neighbours.patches[:] = neighbours.patches[:, :, :1, :1]
    data, chosen = contributions_data(contributions, neighbours, PER_IMAGE)
    sprite = np.asarray(Image.open(io.BytesIO(sprite_of(neighbours, chosen))))
    for place, (location, rank) in enumerate(chosen):
        row, col = divmod(place, data["columns"])
        middle = sprite[row * THUMB_PX + 16, col * THUMB_PX + 16].astype(int)
        assert abs(middle - neighbours.patches[location, rank, 0, 0]).max() < 20


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
def test_a_page_is_given_its_samples_and_how_far_guesses_are_off(num_vertices, rng):
    sets = sample_sets(num_vertices, rng)
    live = make_live(summary_of(num_vertices), sets, None, 1)
    assert "<" not in live.json
    data = json.loads(live.json)
    assert data["targetName"] == "<b>cat</b>"
    asked = joined(sets["hull"], sets["tour"])
    np.testing.assert_allclose(data["samples"]["weights"], asked.weights, atol=1e-4)
    assert data["samples"]["classes"] == asked.classes.tolist()
    errors = abs(interpolate(asked, sets["check"].weights) - sets["check"].target_probabilities)
    error = present(live.error)
    assert error["mean"] == pytest.approx(errors.mean())
    assert error["max"] == pytest.approx(errors.max())
    assert error["asked"] == len(asked)
    assert live.tour_points == len(data["tour"])
    assert len(data["tour"]) == 1 + data["pointsPerLeg"] * len(data["legs"])
    assert (live.tour is None) == (num_vertices == 1)


def test_without_samples_there_is_still_a_tour():
    live = make_live(summary_of(3), None, None, 1)
    assert (live.error, live.tour) == (None, None)
    data = json.loads(live.json)
    assert data["samples"] is None
    np.testing.assert_allclose(np.sum(data["tour"], axis=1), 1, atol=1e-5)


def test_the_line_of_the_tour_is_the_probability(rng):
    sets = sample_sets(3, rng)
    line = present(make_live(summary_of(3), sets, None, 1).tour)
    heights = [float(point.split(",")[1]) for point in line["points"].split()]
    chances = sets["tour"].target_probabilities
    np.testing.assert_allclose(heights, 100 - 100 * chances, atol=0.01)
    assert (line["low"], line["high"]) == (chances.min(), chances.max())


def test_charts_show_samples_beside_random_images(rng):
    hull, null = (samples_of(rng.dirichlet(np.ones(3), 9), rng) for _ in range(2))
    alone = "".join(draw_samples(hull, None, 0.9))
    both = "".join(draw_samples(hull, null, 0.9))
    assert ">between random images<" in both
    assert ">between random images<" not in alone
    assert both.count("<svg") == alone.count("<svg") == 2


def test_the_script_of_a_page_is_named_by_its_digest():
    import hashlib

    script = page_script()
    assert base64.b64decode(script.digest) == hashlib.sha256(script.text.encode()).digest()
    # What could end its element, or fetch something.
    assert not re.search(r"</script|<!--|https?:|fetch\(|import\(", script.text, re.IGNORECASE)
