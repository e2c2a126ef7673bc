"""Lines below and above what bends, raised at each corner of a simplex as little as need be."""

import pytest
import torch

from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.proofs.bends import Bend, Cap, Floor, Largest, Slopes, Smooth

BENDS = [Floor(0.0), Floor(-0.3), Cap(0.4), Smooth(torch.tanh, 0.77)]


def ends(generator: torch.Generator, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    middle = torch.randn(shape, generator=generator).double()
    width = torch.rand(shape, generator=generator).double() ** 3
    return middle - width, middle + width


def between(lower, upper, generator):
    """Points of the simplex, and values between the two functions there."""
    weights = uniform_weights(500, len(lower), generator)
    low, high = (torch.einsum("pc,c...->p...", weights, end) for end in (lower, upper))
    shares = torch.rand(low.shape, generator=generator).double().round(decimals=1)
    return weights, low + shares * (high - low)


def require_around(bend: Bend, lines, weights, values):
    slopes = lines.lower_slope, lines.upper_slope
    offsets = (
        torch.einsum("pc,c...->p...", weights, offset.expand(weights.shape[1], *offset.shape[1:]))
        for offset in (lines.lower_offset, lines.upper_offset)
    )
    below, above = (slope * values + offset for slope, offset in zip(slopes, offsets, strict=True))
    assert (below <= bend.run(values) + 1e-14).all()
    assert (above >= bend.run(values) - 1e-14).all()


@pytest.mark.parametrize("bend", BENDS)
def test_what_bends_lies_between_its_lines_whatever_their_slopes(bend, generator):
    lower, upper = ends(generator, 5, 40)
    lines = bend.lines(lower, upper)
    weights, values = between(lower, upper, generator)
    require_around(bend, lines, weights, values)
    for _ in range(10):
        slopes = Slopes(*torch.rand(2, 1, 40, generator=generator).double())
        turned = bend.tilted(lines, slopes, lower, upper)
        if turned is not lines:
            shifts = turned.lower_offset[0], turned.upper_offset[0]
            one = turned._replace(
                lower_slope=turned.lower_slope[0],
                lower_offset=shifts[0],
                upper_slope=turned.upper_slope[0],
                upper_offset=shifts[1],
            )
            require_around(bend, one, weights, values)


def test_the_line_above_an_affine_function_s_relu_meets_it_at_every_corner(generator):
    """The chord of the range would meet it at two."""
    values = torch.randn(5, 40, generator=generator).double()
    lines = Floor(0.0).lines(values, values)
    above = lines.upper_slope * values + lines.upper_offset
    torch.testing.assert_close(above, values.clamp(min=0), rtol=0, atol=1e-13)


def test_largest_values_lie_between_what_is_chosen(generator):
    lower, upper = ends(generator, 4, 30, 3)
    choice = Largest().lines(lower, upper)
    weights, values = between(lower, upper, generator)
    offset = weights @ choice.offset
    assert ((choice.taken * values).sum(dim=-1) <= values.amax(dim=-1)).all()
    assert ((choice.slopes * values).sum(dim=-1) + offset >= values.amax(dim=-1) - 1e-14).all()
