"""The adequacy of networks, and its comparison on the same images."""

import json
import math
from typing import Any

import numpy as np
import pytest

from patchcollide.audit.adequacy import (
    HEADER,
    adequacy_table,
    blindness,
    compare_adequacy,
    compare_audits,
    factors,
    measure_adequacy,
    whole_size,
)
from patchcollide.errors import RunError
from patchcollide.evaluation.visibility import measure_visibility
from patchcollide.io.files import write_json
from tests.helpers.presence import present


def row(size, certainty=1.0, coarse=1.0):
    return {"size": size, "hull_probability": certainty, "coarse_share": coarse}


def test_a_network_that_sees_nothing_and_is_certain_has_none():
    found = measure_adequacy([row(whole_size(16))] * 3, whole_size(16), 0)
    assert found["score"] == 0
    assert (found["size"], found["certainty"], found["visibility"]) == (1, 1, 1)
    assert measure_adequacy([row(0.0)], whole_size(16), 0)["score"] == 1


def test_the_whole_is_the_distance_of_random_corners(rng):
    corners = 255 * rng.integers(0, 2, size=(2, 400, 784))
    assert np.linalg.norm(corners[0] - corners[1], axis=1).mean() == pytest.approx(
        whole_size(784), rel=0.01
    )


def test_blindness_is_the_product_of_three_shares():
    rows = [row(5.0, 0.5, 0.04), row(30.0, 0.9, 1.0), row(10.0, 0.25, 0.0)]
    assert factors(rows, 20.0) == pytest.approx(
        np.array([[0.25, 0.5, 0.2], [1, 0.9, 1], [0.5, 0.25, 0]])
    )
    assert blindness(rows, 20.0) == pytest.approx([0.025, 0.9, 0])
    found = measure_adequacy(rows, 20.0, 0)
    assert found["score"] == pytest.approx(1 - (0.025 + 0.9) / 3)
    low, high = present(found["interval"])
    assert low <= found["score"] <= high
    assert found["num_images"] == 3


def test_noise_is_no_more_than_what_is_coarse_of_it(rng):
    base = np.full((64, 64, 3), 128.0)
    noise = rng.normal(0, 12, base.shape)
    images = {"noise": base + noise, "brightness": base + 12}
    found = {}
    for name, other in images.items():
        pair = np.stack([base, other]).round().astype(np.uint8)
        distance = float(np.linalg.norm(pair[0].astype(float) - pair[1]))
        seen = measure_visibility(pair)
        rows: list[Any] = [{**seen, "size": distance, "hull_probability": 1.0}]
        found[name] = float(blindness(rows, whole_size(base.size))[0])
        # By structural similarity noise was seen, and brightness was not.
        assert (present(seen["ssim_mean"]) < 0.5) == (name == "noise")
    assert found["noise"] < 0.5 * found["brightness"]
    assert found["brightness"] == pytest.approx(12 / 255 * math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("sizes", [[4.0], [4.0, 4.0, 4.0]])
def test_images_that_do_not_vary_have_no_interval(sizes, write_audit):
    rows = [row(size) for size in sizes]
    assert measure_adequacy(rows, 10.0, 0)["interval"] is None
    found = compare_adequacy(blindness(rows, 10.0), blindness(rows, 8.0), 0)
    assert found.difference == pytest.approx(0.1)
    assert found.interval is None
    other = [size + 1 for size in sizes]
    table = adequacy_table(compare_audits([write_audit("a", sizes), write_audit("b", other)]))
    assert "| 0.6000 (no interval) | - |" in table
    assert "| 0.5000 (no interval) | 0.1000 (no interval) |" in table
    assert "No interval: one image, or images that all give the same value, do not show" in table


def test_audits_of_the_first_version_are_refused(write_audit):
    folder = write_audit("old", [1.0, 2.0])
    audit = json.loads((folder / "audit.json").read_text())
    for image in audit["images"]:
        image["ssim_mean"] = 1 - image.pop("coarse_share")
    write_json(folder / "audit.json", audit)
    with pytest.raises(RunError, match=r"old was measured by an older version.*Audit the same im"):
        compare_audits([folder])


def test_pairs_show_differences_that_are_small_beside_those_of_images(rng):
    second = rng.uniform(0.1, 0.9, 60)
    first = second - 0.01 - rng.uniform(0, 0.01, 60)
    found = compare_adequacy(first, second, 0)
    low, high = present(found.interval)
    assert 0.01 < low < found.difference < high < 0.02
    assert compare_adequacy(second, first, 0).difference == -found.difference
    low, high = present(compare_adequacy(second, rng.permutation(second), 0).interval)
    assert low < 0 < high


@pytest.fixture
def write_audit(tmp_path):
    def write(name, sizes, method="search", digests=None, **settings):
        folder = tmp_path / name
        folder.mkdir()
        about = {
            "encoding-type": "patchcollide-audit",
            "encoding-version": "1",
            **{key: {} for key in ("fingerprint", "config", "identity", "inputs")},
            "seed": 0,
        }
        write_json(folder / "config.json", about)
        digests = digests or ["0"] * len(sizes)
        images: list[Any] = [
            {**row(size), "name": f"{number}.png", "sha256": digest}
            for number, (size, digest) in enumerate(zip(sizes, digests, strict=True))
        ]
        for image, value in zip(images, blindness(images, 10.0), strict=True):
            image["blindness"] = value
        audit = {
            "network": name,
            "layer": "act",
            "method": method,
            "seed": 0,
            "images": images[::-1],
            "data_distance": 1.0,
            "whole_size": 10.0,
            "agreement": 0.5,
            "settings": {
                "audit": {"method": method, "steps": 3, **settings},
                "objective": {},
                "optimiser": {},
            },
        }
        write_json(folder / "audit.json", audit)
        return folder

    return write


def test_networks_are_ranked_beside_the_best(write_audit):
    folders = [write_audit("blind", [5.0, 9.0, 7.0]), write_audit("seeing", [1.0, 4.0, 2.0])]
    best, other = compare_audits(folders)
    assert (best.name, best.behind) == ("seeing", None)
    assert best.adequacy["score"] == pytest.approx(1 - 0.7 / 3)
    behind = present(other.behind)
    assert behind.difference == pytest.approx(1.4 / 3)
    assert present(behind.interval)[0] > 0
    assert len(best.cells()) == len(other.cells()) == len(HEADER)
    assert other.cells()[3].startswith("0.4667 (")
    assert math.isclose(compare_audits(folders[:1])[0].adequacy["score"], 1 - 0.7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digests": ["0", "1"]}, r"b \(2 images\) and .*a \(2\) differ in 1, first in 1\.png"),
        ({"method": "exact"}, "measured by 'search', .*b by 'exact'.*audit.method=search"),
        ({"steps": 4}, "audit.steps = 3, .*b with 4"),
    ],
)
def test_what_cannot_be_compared_is_refused(write_audit, changes, message):
    folders = [write_audit("a", [1.0, 2.0]), write_audit("b", [1.0, 2.0], **changes)]
    with pytest.raises(RunError, match=message):
        compare_audits(folders)


def test_audits_of_more_images_are_refused(write_audit):
    folders = [write_audit("a", [1.0]), write_audit("b", [1.0, 2.0])]
    with pytest.raises(RunError, match=r"differ in 1, first in 1\.png"):
        compare_audits(folders)


def test_what_is_no_audit_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is not a run.*patchcollide audit"):
        compare_audits([tmp_path])
