"""Connections against the Jacobians that automatic differentiation gives."""

import numpy as np
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import StdConv2d
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.connections import Block, connections_of

CONVOLUTIONS = {
    "plain": (nn.Conv2d(2, 3, 3), (7, 7)),
    "one by one": (nn.Conv2d(3, 2, 1), (4, 5)),
    "one by one, a single value": (nn.Conv2d(1, 1, 1), (1, 1)),
    "padded": (nn.Conv2d(2, 3, (3, 2), padding=(2, 1), bias=False), (5, 6)),
    "kernel larger than the image": (nn.Conv2d(1, 2, 5, padding=2), (2, 1)),
    "strides that skip inputs": (nn.Conv2d(2, 2, 1, stride=(2, 3)), (5, 7)),
    "strides as long as the kernel": (nn.Conv2d(2, 3, 2, stride=2), (6, 4)),
    "dilated": (nn.Conv2d(2, 3, 3, dilation=(2, 1), padding=2), (7, 6)),
    "dilated into two lattices": (nn.Conv2d(1, 2, (1, 2), dilation=2), (2, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1), (5, 5)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3, padding=1), (4, 4)),
    "padded evenly": (nn.Conv2d(1, 2, (3, 5), padding="same"), (5, 5)),
    "padded by reflection": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (4, 5)),
    "padded in a circle": (nn.Conv2d(1, 2, 3, padding=2, padding_mode="circular"), (3, 3)),
    "padded as TensorFlow does": (Conv2dSame(2, 3, 3, stride=2), (8, 7)),
}
LINEAR = {"rows": (5,), "one value": (1,), "rows at places": (3, 4), "a grid": (2, 3, 4)}


def jacobian(module, shape):
    """All rows, flat, by differentiating the module."""
    values = torch.zeros(1, *shape, dtype=torch.float64)
    found = torch.autograd.functional.jacobian(module, values)
    return found.reshape(-1, values.numel()).numpy()


def assembled(connections):
    """The matrix from its blocks; no entry may come from two."""
    matrix = np.full((connections.num_units, connections.num_inputs), np.nan)
    for block in connections.blocks():
        place = np.ix_(connections.units_of(block), connections.inputs_of(block))
        assert np.isnan(matrix[place]).all()
        matrix[place] = connections.matrix_of(block)
    return np.nan_to_num(matrix)


def assert_reads(module, shape):
    module = module.double()
    expected = jacobian(module, shape)
    found = connections_of(module, (1, *shape))
    assert (found.num_units, found.num_inputs) == expected.shape
    np.testing.assert_allclose(assembled(found), expected, atol=1e-14)
    units = np.arange(found.num_units)
    np.testing.assert_allclose(found.rows(units).toarray(), expected, atol=1e-14)
    some = np.unique(units[::3])[::-1].copy()
    np.testing.assert_allclose(found.rows(some).toarray(), expected[some], atol=1e-14)
    # Random weights are nowhere zero, so no other entry is.
    np.testing.assert_array_equal(found.unread(), np.flatnonzero(~expected.any(axis=0)))
    blocks = list(found.blocks())
    assert len(blocks) == found.num_blocks
    sizes = {found.matrix_of(block).shape for block in blocks}
    assert sizes == found.block_sizes()
    return found


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_read_as_their_jacobians(name):
    module, size = CONVOLUTIONS[name]
    assert_reads(module, (module.in_channels, *size))


@pytest.mark.parametrize("name", LINEAR)
def test_linear_layers_are_read_as_their_jacobians(name):
    shape = LINEAR[name]
    assert_reads(nn.Linear(shape[-1], 3), shape)


@pytest.mark.parametrize(
    ("name", "num_blocks"),
    [
        ("plain", 1),
        ("one by one", 20),
        ("strides as long as the kernel", 6),
        ("depthwise", 3),
        ("dilated into two lattices", 4),
        ("strides that skip inputs", 9),
    ],
)
def test_matrices_fall_apart_as_far_as_they_can(name, num_blocks):
    module, size = CONVOLUTIONS[name]
    found = connections_of(module.double(), (1, module.in_channels, *size))
    assert found.num_blocks == num_blocks


def test_linear_layers_on_rows_fall_apart_into_rows():
    assert connections_of(nn.Linear(4, 2).double(), (1, 3, 4)).num_blocks == 3
    assert connections_of(nn.Linear(4, 2).double(), (1, 4)).num_blocks == 1


def test_units_that_see_only_padding_are_blocks_without_inputs():
    found = connections_of(nn.Conv2d(1, 2, 1, padding=1).double(), (1, 1, 1, 1))
    assert found.block_sizes() == {(2, 0), (2, 1)}
    assert found.num_blocks == 9
    alone = next(block for block in found.blocks() if not len(block.sources))
    assert found.matrix_of(alone).shape == (2, 0)


def test_a_block_has_the_numbers_of_its_units_and_inputs():
    found = connections_of(nn.Conv2d(4, 2, 1, groups=2).double(), (1, 4, 1, 3))
    block = Block(1, np.array([2]), np.array([2]))
    assert found.units_of(block).tolist() == [5]
    assert found.inputs_of(block).tolist() == [8, 11]


def test_a_module_that_changes_its_weight_is_refused():
    module = StdConv2d(2, 3, 3).double()
    with pytest.raises(NetworkError, match="something else than multiply"):
        connections_of(module, (1, 2, 5, 5))


def test_an_image_without_a_batch_is_refused():
    with pytest.raises(NetworkError, match=r"should be a batch of images, but is of shape \(2, 5"):
        connections_of(nn.Conv2d(2, 1, 3).double(), (2, 5, 5))
