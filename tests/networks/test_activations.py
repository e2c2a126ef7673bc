import pytest
import torch
from timm.layers import HardSigmoid, HardSwish
from torch import nn

from patchcollide.networks.activations import BlindRegions, blind_regions

KNOWN = [
    (nn.ReLU(), BlindRegions(0.0, None)),
    (nn.ReLU(inplace=True), BlindRegions(0.0, None)),
    (nn.ReLU6(), BlindRegions(0.0, 6.0)),
    (nn.Hardtanh(-2, 0.5), BlindRegions(-2.0, 0.5)),
    (nn.Threshold(0.25, 7.0), BlindRegions(0.25, None)),
    (nn.Hardsigmoid(), BlindRegions(-3.0, 3.0)),
    (nn.Hardswish(), BlindRegions(-3.0, None)),
    (HardSigmoid(), BlindRegions(-3.0, 3.0)),
    (HardSwish(), BlindRegions(-3.0, None)),
]


@pytest.mark.parametrize(("module", "expected"), KNOWN, ids=lambda value: repr(value)[:30])
def test_blind_regions_of_known_activations(module, expected):
    assert blind_regions(module) == expected


@pytest.mark.parametrize(("module", "regions"), KNOWN, ids=lambda value: repr(value)[:30])
def test_an_activation_is_constant_in_its_blind_regions_and_nowhere_beside_them(module, regions):
    # Eighths are exact in binary, so that boundaries are hit.
    values = torch.arange(-80, 81, dtype=torch.float64) / 8
    active, low, high = regions.masks(values)
    activation = module(values.clone())
    for blind in (low, high):
        assert activation[blind].unique().numel() <= 1
    # Between neighbouring values of the active part something changes.
    assert (activation[active].diff() != 0).all()
    # At the boundary itself the activation has its constant value already.
    assert low.sum() == (0 if regions.low is None else (values <= regions.low).sum())
    assert high.sum() == (0 if regions.high is None else (values >= regions.high).sum())


@pytest.mark.parametrize(
    "module",
    [nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.Tanh(), nn.ELU(), nn.LeakyReLU(), nn.Conv2d(3, 3, 1)],
)
def test_modules_that_are_never_exactly_constant_have_no_blind_region(module):
    assert blind_regions(module) is None


def test_a_subclass_is_not_taken_for_its_base():
    class Shifted(nn.ReLU):
        def forward(self, values):
            return super().forward(values) + values

    assert blind_regions(Shifted()) is None


def test_masks_cover_every_unit_once_and_count_boundaries_as_blind():
    values = torch.tensor([[-1.0, 0.0, 1e-30], [5.9999, 6.0, 7.0]])
    active, low, high = BlindRegions(0.0, 6.0).masks(values)
    assert active.tolist() == [[False, False, True], [True, False, False]]
    assert low.tolist() == [[True, True, False], [False, False, False]]
    assert high.tolist() == [[False, False, False], [False, True, True]]


def test_masks_of_extreme_values():
    values = torch.tensor([-torch.inf, torch.inf, torch.nan])
    active, low, high = BlindRegions(0.0, None).masks(values)
    assert active.tolist() == [False, True, True]
    assert low.tolist() == [True, False, False]
    assert not high.any()


def test_an_activation_that_is_constant_everywhere_has_no_active_unit():
    active, low, high = BlindRegions(1.0, 1.0).masks(torch.tensor([0.0, 1.0, 2.0]))
    assert not active.any()
    assert (low.int() + high.int() == 1).all()
