"""How close vertices are to the source, which detail differs, and units at their own vertices."""

import numpy as np
import pytest
import torch

from patchcollide.evaluation.closeness import measure_closeness
from patchcollide.evaluation.driven_units import rank_units
from patchcollide.evaluation.visibility import block_share, measure_visibility
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.targets import TargetFeatures


def mean_over_all_blocks(difference, side):
    """The mean square of each block's mean, one block at a time."""
    height, width, _ = difference.shape
    means = [
        difference[row : row + side, column : column + side].mean(axis=(0, 1))
        for row in range(height - side + 1)
        for column in range(width - side + 1)
    ]
    return np.square(means).mean()


@pytest.mark.parametrize(("height", "width"), [(84, 84), (58, 63), (5, 7), (1, 3)])
def test_blocks_keep_what_their_means_do_wherever_their_grid_lies(height, width):
    rng = np.random.default_rng(height)
    differences = rng.normal(0, 40, (3, height, width, 3))
    side = {84: 3, 58: 2, 5: 2, 1: 1}[height]
    kept = sum(mean_over_all_blocks(difference, side) for difference in differences)
    expected = kept / sum(np.square(difference).mean() for difference in differences)
    assert block_share(differences) == pytest.approx(expected)


def test_blocks_keep_all_of_one_colour_and_little_of_noise():
    flat = np.full((1, 224, 224, 3), 7.0)
    assert block_share(flat) == pytest.approx(1)
    assert block_share(0 * flat) == 0
    noise = np.random.default_rng(0).normal(size=flat.shape)
    assert block_share(noise) == pytest.approx(1 / 64, rel=0.05)


def test_closeness_is_of_each_vertex_to_the_source(monkeypatch):
    rng = np.random.default_rng(1)
    source = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
    vertices = np.stack([source, source + np.uint8(3), source + np.uint8(4)])
    found = measure_closeness(vertices, source)
    length = np.sqrt(source.size)
    assert found["distance_mean"] == pytest.approx(length * 7 / 3)
    assert found["distance_max"] == pytest.approx(length * 4)
    assert found["block_share"] == pytest.approx(1)
    pair = measure_visibility(vertices[[0, 2]])
    assert found["ssim_min"] == pytest.approx(pair["ssim_mean"])
    assert found["ssim_min"] < found["ssim_mean"] < 1
    assert measure_closeness(source[None], source)["ssim_min"] == 1


@pytest.mark.parametrize("high", [None, 6.0])
def test_a_unit_is_ranked_at_its_own_vertex_in_its_own_region(high):
    target = TargetFeatures.of(torch.tensor([-1.0, -1.0, 2.0, 7.0]), BlindRegions(0.0, high))
    z = torch.tensor([[-5.0, -2.0, 2.0, 8.0], [-4.0, -1.5, 2.0, 7.5], [-6.0, 0.5, 2.0, 9.0]])
    first, second = rank_units(z, target, torch.tensor([0, 1]))
    assert first == {"unit": 0, "rank": 2, "below_target": True}
    assert second == {"unit": 1, "rank": 2, "below_target": True}
    assert rank_units(z, target, torch.tensor([], dtype=torch.int64)) == []
    if high:
        # Above the upper region's end, deeper is larger.
        (upper,) = rank_units(z, target, torch.tensor([3]))
        assert upper == {"unit": 3, "rank": 2, "below_target": True}
        (shallow,) = rank_units(z[1:] - 1, target, torch.tensor([3]))
        assert shallow == {"unit": 3, "rank": 2, "below_target": False}
