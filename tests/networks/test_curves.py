"""Intervals of activations to a tolerance, against scans of dense grids."""

import copy
import itertools
import math
import pickle
from typing import Any

import pytest
import timm.layers as timm_layers
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from patchcollide.errors import NetworkError
from patchcollide.networks.activations import BlindRegions, blind_regions
from patchcollide.networks.curves import curve_of
from tests.helpers.presence import present


def blind_intervals(module: nn.Module, z: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
    regions = blind_regions(module, tolerance) or BlindRegions(None, None)
    return regions.intervals(z)


def bent(weight):
    module = nn.PReLU().double().requires_grad_(False)
    nn.init.constant_(module.weight, weight)
    return module


MODULES = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.Hardtanh(-2, 0.5),
    nn.Threshold(0.25, 0.25),
    nn.Hardsigmoid(),
    nn.Hardswish(),
    nn.LeakyReLU(),
    nn.LeakyReLU(0.2),
    nn.LeakyReLU(0.0),
    bent(0.25),
    bent(-0.5),
    nn.RReLU(0.1, 0.3).eval(),
    nn.ELU(),
    nn.ELU(0.5, inplace=True),
    nn.CELU(2.0),
    nn.SELU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Softplus(),
    nn.Softplus(beta=3.0, threshold=30),
    nn.LogSigmoid(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Softsign(),
    nn.Softshrink(0.5),
    nn.Tanhshrink(),
    timm_layers.activations.HardSigmoid(),
    timm_layers.activations.HardSwish(),
    timm_layers.activations.GELUTanh(),
    timm_layers.activations.QuickGELU(),
    timm_layers.activations.Swish(),
    timm_layers.activations.Mish(),
    timm_layers.activations.Sigmoid(),
    timm_layers.activations.Tanh(),
    timm_layers.activations.GELU(),
]

BOTH_LIMITS = (nn.Sigmoid, nn.Tanh, nn.Softsign, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid)
NO_LIMIT = (nn.PReLU, nn.RReLU, nn.Softshrink, nn.Tanhshrink)
INPUTS = st.floats(-30, 30, width=32)
TOLERANCES = st.floats(1e-6, 3)
ANY = st.sampled_from(MODULES)


def value(module, z):
    """What the module itself makes of inputs, untouched by modules that work in place."""
    return module(torch.as_tensor(z, dtype=torch.float64).clone())


def ends(module, z, tolerance):
    lower, upper = blind_intervals(module, torch.tensor([z], dtype=torch.float64), tolerance)
    return lower.item(), upper.item()


PLACES = (-40.3, -3.0, -2.1, -1.3, -0.75, -0.3, -0.01, 0.0, 0.02, 0.4, 1.0, 2.9, 6.0, 7.7)


def scanned(module, z, tolerance, sign, *, step, reach):
    """How far each interval goes to one side, on a grid; the reach stands for all beyond it."""
    offsets = torch.arange(0, reach, step, dtype=torch.float64)
    near = (value(module, z[:, None] + sign * offsets) - value(module, z)[:, None]).abs()
    return step * ((near <= tolerance).double().cumprod(dim=1).sum(dim=1) - 1)


@pytest.mark.parametrize("module", MODULES, ids=repr)
@pytest.mark.parametrize("tolerance", [0.013, 0.21])
def test_intervals_match_a_scan_of_a_dense_grid(module, tolerance):
    z, step, reach = torch.tensor(PLACES, dtype=torch.float64), 5e-3, 30.0
    for end, sign in zip(blind_intervals(module, z, tolerance), (-1, 1), strict=True):
        found = sign * (end - z)
        expected = scanned(module, z, tolerance, sign, step=step, reach=reach)
        beyond = expected > reach - 2 * step
        assert (found[beyond] > reach - 2 * step).all()
        assert (found[~beyond] >= expected[~beyond] - 1e-9).all()
        assert (found[~beyond] <= expected[~beyond] + step + 1e-9).all()


@settings(max_examples=150, deadline=None)
@given(module=ANY, z=INPUTS, tolerance=TOLERANCES)
@example(module=nn.GELU(), z=-0.7517915246935646, tolerance=0.17)
@example(module=nn.Hardswish(), z=-1.5, tolerance=0.375)
def test_an_interval_holds_its_input_stays_near_inside_and_leaves_just_outside(
    module, z, tolerance
):
    lower, upper = ends(module, z, tolerance)
    assert lower <= z <= upper
    level = value(module, z)
    inside = torch.linspace(max(lower, -1e3), min(upper, 1e3), 400, dtype=torch.float64)
    for near in (inside, torch.linspace(max(lower, z - 9), min(upper, z + 9), 400).double()):
        near = near.clamp(lower, upper)
        assert ((value(module, near) - level).abs() <= tolerance + 1e-8).all()
    for end, sign in ((lower, -1), (upper, 1)):
        if math.isfinite(end):
            # Beside the end; and a little farther, where a rise that small is more than rounding.
            beyond = end + sign * torch.tensor([1e-9, 1e-6, 1e-4], dtype=torch.float64)
            away = (value(module, beyond) - level).abs()
            assert (away > tolerance - 1e-9).any()
            assert away.max() > tolerance


@settings(max_examples=100, deadline=None)
@given(module=ANY, z=INPUTS, first=TOLERANCES, second=TOLERANCES)
def test_intervals_grow_with_the_tolerance(module, z, first, second):
    small, large = sorted((first, second))
    inner, outer = ends(module, z, small), ends(module, z, large)
    assert outer[0] <= inner[0] <= inner[1] <= outer[1]


@settings(max_examples=100, deadline=None)
@given(module=ANY, values=st.lists(INPUTS, min_size=1, max_size=7))
def test_without_a_tolerance_only_exactly_blind_regions_have_width(module, values):
    z = torch.tensor(values, dtype=torch.float64)
    lower, upper = blind_intervals(module, z)
    regions: Any = blind_regions(module) or BlindRegions(None, None)
    active, low, high = regions.masks(z)
    assert (lower[active] == z[active]).all()
    assert (upper[active] == z[active]).all()
    assert (lower[low] == -math.inf).all()
    assert (upper[high] == math.inf).all()
    if low.any():
        assert (upper[low] == regions.low).all()
    if high.any():
        assert (lower[high] == regions.high).all()


@settings(max_examples=100, deadline=None)
@given(module=ANY, values=st.lists(INPUTS, min_size=1, max_size=7), tolerance=TOLERANCES)
def test_units_are_sorted_by_the_ends_of_their_intervals(module, values, tolerance):
    z = torch.tensor(values)
    regions = present(blind_regions(module, tolerance))
    lower, upper = regions.intervals(z)
    assert lower.dtype == upper.dtype == torch.float32
    active, low, high = regions.masks(z)
    assert low.tolist() == [
        a == -math.inf < b < math.inf for a, b in zip(lower, upper, strict=True)
    ]
    assert high.tolist() == [
        -math.inf < a < b == math.inf for a, b in zip(lower, upper, strict=True)
    ]
    assert torch.equal(active, lower.isfinite() & upper.isfinite())


@pytest.mark.parametrize("module", MODULES, ids=repr)
@pytest.mark.parametrize("tolerance", [1e-3, 0.05, 0.3, 2.5])
def test_half_lines_stay_near_the_limit_and_begin_where_they_no_longer_would(module, tolerance):
    regions = present(blind_regions(module, tolerance))
    for end, sign in ((regions.low, -1), (regions.high, 1)):
        if end is None:
            assert abs(value(module, sign * 1e15).item()) > 1e12
            continue
        limit = value(module, sign * 1e12)
        begin = end if math.isfinite(end) else -sign * 50.0
        # All inputs of the half-line, not its begin alone: some activations dip and come back.
        inside = begin + sign * torch.linspace(0, 60, 6001, dtype=torch.float64)
        assert ((value(module, inside) - limit).abs() <= tolerance + 1e-8).all()
        if math.isfinite(end):
            beyond = end - sign * torch.tensor([1e-6, 1e-4], dtype=torch.float64)
            assert ((value(module, beyond) - limit).abs() > tolerance).any()


def test_activations_without_a_limit_have_no_half_line_at_any_tolerance():
    for module, tolerance in itertools.product(MODULES, (0.01, 100.0)):
        if isinstance(module, NO_LIMIT) or repr(module) == "LeakyReLU(negative_slope=0.2)":
            regions = present(blind_regions(module, tolerance))
            assert (regions.low, regions.high) == (None, None)
        elif isinstance(module, BOTH_LIMITS):
            regions = present(blind_regions(module, tolerance))
            assert None not in (regions.low, regions.high)


def test_the_half_line_of_gelu_ends_before_its_dip_unless_the_tolerance_covers_it():
    # GELU is -0.16997 at its lowest and -0.05 on both sides of that; the ends are SciPy's roots.
    assert present(blind_regions(nn.GELU(), 0.05)).low == pytest.approx(-1.9488610414615732)
    assert present(blind_regions(nn.GELU(), 0.17)).low == pytest.approx(0.2787825958178511)


@pytest.mark.parametrize(
    ("module", "z", "tolerance", "expected"),
    [
        (nn.ReLU(), 1.0, 0.25, (0.75, 1.25)),
        (nn.ReLU(), 0.125, 0.25, (-math.inf, 0.375)),
        (nn.ReLU(), -5.0, 0.25, (-math.inf, 0.25)),
        (nn.ReLU6(), 5.9, 0.25, (5.65, math.inf)),
        (nn.LeakyReLU(0.5), -5.0, 0.25, (-5.5, -4.5)),
        # From -0.2, the positive side begins to count 0.1 below the level.
        (nn.LeakyReLU(0.5), -0.2, 0.25, (-0.7, 0.15)),
        (nn.LeakyReLU(0.5), 0.1, 0.25, (-0.3, 0.35)),
        (nn.Sigmoid(), 0.0, 0.25, (-math.log(3), math.log(3))),
        # At the logarithm of 3, a quarter of the sigmoid's range lies above.
        (nn.Sigmoid(), math.log(3), 0.24, (math.log(0.51 / 0.49), math.log(99))),
        (nn.Sigmoid(), math.log(3), 0.2501, (math.log(0.4999 / 0.5001), math.inf)),
        (nn.Tanh(), 0.0, 2.0, (-math.inf, math.inf)),
        (nn.ELU(), 0.0, 0.5, (-math.log(2), 0.5)),
        (bent(-1.0), 0.0, 0.5, (-0.5, 0.5)),
        (bent(-1.0), 2.0, 0.5, (1.5, 2.5)),
        (bent(-1.0), 2.0, 2.0, (-4.0, 4.0)),
    ],
)
def test_intervals_known_in_closed_form(module, z, tolerance, expected):
    found = ends(module, z, tolerance)
    for end, wanted in zip(found, expected, strict=True):
        assert end == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_extreme_inputs_have_intervals_too(module):
    z = torch.tensor([-math.inf, -3e38, -1e12, 1e-40, 1e12, 3e38, math.inf, math.nan])
    lower, upper = blind_intervals(module, z, 0.01)
    assert (lower[:-1] <= z[:-1]).all()
    assert (upper[:-1] >= z[:-1]).all()
    assert lower[-1].isnan()
    assert upper[-1].isnan()


def test_single_precision_gives_the_intervals_of_double_precision(generator):
    z = 4 * torch.randn(3, 50, generator=generator)
    for module in MODULES:
        double = blind_intervals(module, z.double(), 0.05)
        for end, exact in zip(blind_intervals(module, z, 0.05), double, strict=True):
            assert end.dtype == torch.float32
            assert end.shape == z.shape
            torch.testing.assert_close(end.double(), exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_a_curve_computes_what_its_module_does_and_turns_where_it_says(module):
    curve = present(curve_of(module))
    z = torch.linspace(-25, 25, 5001, dtype=torch.float64)
    torch.testing.assert_close(curve(z), value(module, z), rtol=1e-12, atol=3e-9)
    edges = torch.tensor([-25.0, *curve.turns, 25.0], dtype=torch.float64)
    for left, right in itertools.pairwise(edges.tolist()):
        steps = curve(torch.linspace(left, right, 2001, dtype=torch.float64)).diff()
        assert (steps >= -1e-12).all() or (steps <= 1e-12).all()


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_regions_can_be_compared_pickled_and_copied(tolerance):
    z = torch.linspace(-5, 5, 11)
    for module in MODULES:
        regions = blind_regions(module, tolerance)
        copies = copy.deepcopy(regions), pickle.loads(pickle.dumps(regions))  # noqa: S301
        assert copies == (regions, regions)
        if regions is not None:
            for end, again in zip(
                regions.intervals(z), present(copies[1]).intervals(z), strict=True
            ):
                assert torch.equal(end, again)


def test_a_threshold_that_jumps_is_known_only_exactly():
    z = torch.tensor([0.0, 0.25, 1.0])
    lower, upper = blind_intervals(nn.Threshold(0.25, 7.0), z, 0.5)
    assert lower.tolist() == [-math.inf, -math.inf, 1.0]
    assert upper.tolist() == [0.25, 0.25, 1.0]


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 3, 1),
        nn.PReLU(2),
        nn.Hardshrink(),
        nn.ELU(-1.0),
        nn.Softplus(threshold=1),
        timm_layers.activations.HardMish(),
        nn.Sequential(nn.ReLU()),
    ],
    ids=repr,
)
def test_modules_that_are_not_known_have_no_regions_and_no_curve(module):
    assert blind_regions(module, 0.1) is None
    assert curve_of(module) is None


def test_a_subclass_has_no_intervals_of_its_base():
    class Shifted(nn.GELU):
        def forward(self, values):
            return super().forward(values) + values

    assert blind_regions(Shifted(), 0.1) is None


@pytest.mark.parametrize("tolerance", [-0.1, math.inf, math.nan])
def test_a_tolerance_must_be_a_finite_number_from_zero_on(tolerance):
    with pytest.raises(NetworkError, match=r"network\.tolerance.* should be 0 or a positive"):
        blind_regions(nn.GELU(), tolerance)
