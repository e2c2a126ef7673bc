"""What is claimed of a polytope, on a small network."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.errors import ImageError, NetworkError
from patchcollide.evaluation.claims import compare_with_others, images_needed, walk_edges
from patchcollide.evaluation.dataset import images_of_folder, images_of_store
from patchcollide.evaluation.gaps import measure_gaps
from patchcollide.images.tensors import as_batch
from patchcollide.networks.linear_regions.walk import margins
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from tests.helpers.presence import present


@pytest.fixture
def vertices(rng):
    return as_batch(rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))


def dense_margins(network, first, second, target_class, num=2001):
    places = torch.linspace(0, 1, num)[:, None, None, None]
    with torch.no_grad():
        return margins(network(torch.lerp(first[None], second[None], places)).logits, target_class)


@pytest.mark.parametrize("target_class", [0, 3])
def test_complete_walks_find_the_smallest_margin_of_all_edges(
    small_network, vertices, target_class
):
    found = walk_edges(small_network, vertices, target_class, num_edges=None, max_pieces=5000)
    assert found["complete"]
    assert found["is_exact"]
    assert found["share_walked"] == 1
    assert found["num_edges"] == found["num_walked"] == 6
    for edge in found["edges"]:
        first, second = (vertices[number] for number in edge["edge"])
        dense = dense_margins(small_network, first, second, target_class).min().item()
        assert edge["worst_margin"] <= edge["sampled_margin"] + 1e-5
        assert dense - 1e-3 <= edge["worst_margin"] <= dense + 1e-5
        first, second = vertices[edge["edge"]]
        place = edge["worst_at"]
        image = (1 - place) * first + place * second
        with torch.no_grad():
            plain = margins(small_network(image[None]).logits, target_class).item()
        assert plain == pytest.approx(edge["worst_margin"], abs=1e-4)
    assert found["worst_margin"] == min(edge["worst_margin"] for edge in found["edges"])


def test_the_edges_nearest_to_failing_are_walked_first(small_network, vertices):
    found = walk_edges(small_network, vertices, 1, num_edges=2, max_pieces=20)
    walked = [edge for edge in found["edges"] if edge["num_pieces"]]
    others = [edge for edge in found["edges"] if not edge["num_pieces"]]
    assert len(walked) == found["num_walked"] == 2
    assert max(e["sampled_margin"] for e in walked) <= min(e["sampled_margin"] for e in others)
    assert not found["complete"]
    assert found["share_walked"] < 2 / 6
    for edge in others:
        assert (edge["is_exact"], edge["share_walked"]) == (False, 0)
        assert edge["worst_margin"] == edge["sampled_margin"]


def test_one_vertex_has_no_edges(small_network, vertices):
    found = walk_edges(small_network, vertices[:1], 0, num_edges=None, max_pieces=9)
    assert found["edges"] == []
    assert (found["worst_margin"], found["worst_edge"]) == (None, None)


def test_equal_vertices_are_joined_by_one_piece(small_network, vertices):
    same = vertices[:1].expand(2, -1, -1, -1)
    found = walk_edges(small_network, same, 0, num_edges=None, max_pieces=9)
    assert found["num_pieces"] == 1
    assert found["complete"]


def test_the_network_is_left_in_its_own_precision(small_network, vertices):
    before = small_network.digest
    walk_edges(small_network, vertices, 0, num_edges=1, max_pieces=3)
    assert next(small_network.module.parameters()).dtype == torch.float32
    del small_network.__dict__["digest"]
    assert small_network.digest == before


def test_a_network_that_is_not_piecewise_linear_is_not_walked(vertices):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.SiLU(), nn.Flatten())
    network = CollisionNetwork(
        module, name="smooth", layer="1", input_size=32, mean=(0,) * 3, scale=(1,) * 3
    )
    with pytest.raises(NetworkError, match=r"in '2' \(SiLU\): silu is not piecewise linear"):
        walk_edges(network, vertices, 0, num_edges=None, max_pieces=9)


def hull(mean, worst):
    return {"feature_distance_relative": {"mean": mean, "max": worst}}


def test_other_images_are_held_against_the_target_as_in_a_loop(small_network, small_store):
    images = images_of_store(small_store, 5, seed=0)
    with torch.no_grad():
        z = small_network(as_batch(np.stack(images))).pre_activation
    target = TargetFeatures.of(z[4], small_network.blind)
    rows: list[Any] = [measure_gaps(each[None], target).rows()[0] for each in z[:4]]
    taus = [row["feature_distance_relative"] for row in rows]
    middle = float(np.median(taus))
    found = present(compare_with_others(small_network, target, images, hull(middle, 9.0), seed=0))
    # The target's own image is left out.
    assert (found["num_images"], found["num_left_out"], found["num_pairs"]) == (4, 1, 6)
    assert found["num_nearer"] == {"hull_mean": 2, "hull_worst": 4}
    assert found["distances"] == pytest.approx(sorted(taus), rel=1e-4)
    for name, quantiles in found["quantiles"].items():
        column = [row[name] for row in rows]
        assert quantiles == pytest.approx(np.quantile(column, (0.05, 0.5, 0.95)), rel=1e-4)


def test_without_images_there_are_no_others(small_network):
    target = TargetFeatures.of(torch.ones(small_network.units), small_network.blind)
    assert compare_with_others(small_network, target, [], hull(0.1, 0.2), seed=0) is None


def test_images_are_drawn_by_seed_without_repeating(small_store):
    drawn = [[image.tobytes() for image in images_of_store(small_store, 3, s)] for s in range(8)]
    assert all(len(set(images)) == 3 for images in drawn)
    assert len({tuple(images) for images in drawn}) > 3
    assert [i.tobytes() for i in images_of_store(small_store, 3, 2)] == drawn[2]
    assert len(images_of_store(small_store, 99, 0)) == 6


def test_damaged_files_of_a_folder_are_passed_over(small_config, write_images):
    folder = write_images(num=4)
    (folder / "broken.png").write_bytes(b"not a picture")
    found = images_of_folder(folder, small_config, 9, size=16)
    assert [image.shape for image in found] == [(16, 16, 3)] * 4
    assert len(images_of_folder(folder, small_config, 2, size=16)) == 2
    with pytest.raises(ImageError, match="does not exist"):
        images_of_folder(folder / "none", small_config, 2, size=16)


@pytest.mark.parametrize(("pairs", "images"), [(1, 2), (2, 3), (3, 3), (4, 4), (496, 32)])
def test_no_more_images_are_taken_than_pairs_need(pairs, images):
    assert images_needed(pairs) == images
