import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from patchcollide.errors import TargetError
from patchcollide.networks.activations import BlindRegions, blind_regions
from patchcollide.networks.targets import TargetFeatures
from patchcollide.optimisation.units import choose_units
from patchcollide.randomness import seeded
from tests.helpers.presence import present

RELU6 = BlindRegions(0.0, 6.0)
TARGET = TargetFeatures.of(torch.tensor([1.0, -1.0, 0.0, 2.0, 7.5, -3.0, 9.0]), RELU6)


def choose(how, count, seed=0):
    return choose_units(TARGET, how, count, seeded(seed)).tolist()


@pytest.mark.parametrize(("count", "units"), [(1, [1]), (3, [1, 2, 5]), (5, [1, 2, 5, 4, 6])])
def test_the_first_units_come_in_index_order_lower_region_first(count, units):
    assert choose("first", count) == units


def test_the_units_with_most_room_are_the_deepest_at_the_target():
    # Units 5 and 6 are 3 deep, 4 is 1.5 deep, 1 is 1 deep, 2 lies on the boundary.
    assert choose("room", 5) == [5, 6, 4, 1, 2]


def test_spread_units_lie_in_different_channels():
    """Blind are 0..3 of each of six channels of 2 x 4 units."""
    z = torch.where(torch.arange(48) % 8 < 4, -1.0, 1.0)
    target = TargetFeatures.of(z, RELU6)
    for count in (1, 2, 3, 6):
        units = choose_units(target, "spread", count, seeded(0))
        assert len(set((units // 8).tolist())) == count
        assert target.below[units].all()


def test_random_units_are_blind_different_and_decided_by_the_seed():
    drawn = [choose("random", 3, seed) for seed in range(20)]
    assert drawn == [choose("random", 3, seed) for seed in range(20)]
    assert all(len(set(units)) == 3 and set(units) <= {1, 2, 4, 5, 6} for units in drawn)
    assert len(set(map(tuple, drawn))) > 5


def test_units_by_index_are_taken_as_they_are():
    assert choose((6, 1, 2), 2) == [6, 1]


@pytest.mark.parametrize("how", ["first", "random", "room", "spread", (1, 2, 4, 5, 6, 0)])
def test_fewer_inactive_units_than_vertices_are_refused(how):
    with pytest.raises(TargetError, match=r"has 5 inactive units .* each of 6 vertices"):
        choose(how, 6)


def test_too_few_units_by_index_are_refused():
    with pytest.raises(TargetError, match=r"names 2 units, but there are 3 vertices"):
        choose((1, 2), 3)


@pytest.mark.parametrize("unit", [0, 3, 7, 10**12])
def test_a_unit_by_index_must_be_inactive(unit):
    with pytest.raises(TargetError, match=rf"names unit {unit}, which is not inactive"):
        choose((1, unit), 2)


@given(st.lists(st.floats(-9, 15, width=32), min_size=1, max_size=30), st.integers(1, 5))
def test_room_matches_a_sort_of_depths(values, count):
    z = np.array(values)
    depth = {unit: min(v, 6 - v) for unit, v in enumerate(values) if v <= 0 or v >= 6}
    target = TargetFeatures.of(torch.from_numpy(z), RELU6)
    if len(depth) < count:
        return
    found = choose_units(target, "room", count, seeded(0)).tolist()
    assert [depth[unit] for unit in found] == sorted(depth.values())[:count]


@pytest.mark.parametrize("how", ["first", "random", "room", (0, 1)])
def test_an_activation_without_an_endless_interval_has_no_unit_to_drive_deeper(how):
    target = TargetFeatures.of(
        torch.tensor([-9.0, -1.0, 2.0]), present(blind_regions(nn.LeakyReLU(), 0.1))
    )
    with pytest.raises(TargetError, match=r"nears no constant .* objective\.units = 'none'"):
        choose_units(target, how, 2, seeded(0))
    assert choose_units(target, "none", 2, seeded(0)).tolist() == []


def test_only_units_with_an_endless_interval_are_driven_deeper():
    # At 0.1, ELU's intervals have no lower end where it is at most -0.9: below -2.30.
    z = torch.tensor([-2.2, -2.4, 3.0, -5.0, -2.31])
    target = TargetFeatures.of(z, present(blind_regions(nn.ELU(), 0.1)))
    assert choose_units(target, "first", 3, seeded(0)).tolist() == [1, 3, 4]
    assert choose_units(target, "room", 1, seeded(0)).tolist() == [3]
    with pytest.raises(TargetError, match=r"names unit 0, which is not inactive"):
        choose_units(target, (0,), 1, seeded(0))
    with pytest.raises(TargetError, match=r"3 inactive .* raise network\.tolerance = 0\.1, choose"):
        choose_units(target, "first", 4, seeded(0))
