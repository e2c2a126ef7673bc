"""Which inputs a linear layer or a convolution multiplies with what: rows, and independent blocks.

A weight serves many entries of the matrix. A layer's outputs and inputs are channels at places;
taps are the places of a kernel, of which a linear layer has one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from patchcollide.errors import NetworkError
from patchcollide.polyhedra.matrices import Matrix, connected_parts, from_entries
from patchcollide.shapes import Float64, Int64, ndarray


@dataclass(frozen=True, eq=False)
class Block:
    """Units and the inputs they are connected with; no other unit is connected with these.

    Attributes:
        group: Of channels.
        places: Of the units.
        sources: Of the inputs.
    """

    group: int
    places: Int64[ndarray, "places"]
    sources: Int64[ndarray, "sources"]


@dataclass(frozen=True, eq=False)
class Connections:
    """The matrix of a linear layer or a convolution, without its bias.

    Attributes:
        weight: What each tap multiplies.
        sources: The place of the input that each tap reads for each place of the output; -1 for
            none, in padding with zeros.
        num_sources: Places of the input.
        channels_last: Whether of two neighbouring numbers of units, or inputs, channels differ, as
            in a linear layer on rows of features; else places.
    """

    weight: Float64[ndarray, "groups outs ins taps"]
    sources: Int64[ndarray, "taps places"]
    num_sources: int
    channels_last: bool = False

    @property
    def num_units(self) -> int:
        """Rows of the matrix."""
        groups, outs, _, _ = self.weight.shape
        return int(groups * outs * self.sources.shape[1])

    @property
    def num_inputs(self) -> int:
        """Columns of the matrix."""
        groups, _, ins, _ = self.weight.shape
        return int(groups * ins * self.num_sources)

    def units_of(self, block: Block) -> Int64[ndarray, "units"]:
        """Returns the numbers of a block's units, channel by channel."""
        groups, outs, _, _ = self.weight.shape
        channels = block.group * outs + np.arange(outs)
        return self._numbers(channels, block.places, groups * outs, self.sources.shape[1])

    def inputs_of(self, block: Block) -> Int64[ndarray, "inputs"]:
        """Returns the numbers of a block's inputs, channel by channel."""
        groups, _, ins, _ = self.weight.shape
        channels = block.group * ins + np.arange(ins)
        return self._numbers(channels, block.sources, groups * ins, self.num_sources)

    def _numbers(
        self, channels: ndarray, places: ndarray, num_channels: int, num_places: int
    ) -> Int64[ndarray, "numbers"]:
        steps = (1, num_channels) if self.channels_last else (num_places, 1)
        return np.asarray(channels[:, None] * steps[0] + places[None] * steps[1]).reshape(-1)

    @cached_property
    def _parts(self) -> list[tuple[ndarray, ndarray]]:
        """Places and sources that are connected, of any group; sources alone are left out."""
        taps, places = np.nonzero(self.sources >= 0)
        num_places = self.sources.shape[1]
        place_labels, source_labels = connected_parts(
            places, self.sources[taps, places], (num_places, self.num_sources)
        )
        source_order = np.argsort(source_labels, kind="stable")
        place_order = np.argsort(place_labels, kind="stable")
        labels, starts = np.unique(place_labels[place_order], return_index=True)
        ends = np.searchsorted(source_labels[source_order], np.stack([labels, labels + 1]))
        return [
            (part, source_order[first:last])
            for part, first, last in zip(
                np.split(place_order, starts[1:]), *ends.tolist(), strict=True
            )
        ]

    def blocks(self) -> Iterator[Block]:
        """Yields all blocks that have units."""
        for places, sources in self._parts:
            for group in range(len(self.weight)):
                yield Block(group, places, sources)

    @property
    def num_blocks(self) -> int:
        """How many blocks have units."""
        return len(self._parts) * len(self.weight)

    def block_sizes(self) -> set[tuple[int, int]]:
        """Returns which sizes, units by inputs, blocks have; none of them is built."""
        _, outs, ins, _ = self.weight.shape
        return {(outs * len(places), ins * len(sources)) for places, sources in self._parts}

    def unread(self) -> Int64[ndarray, "inputs"]:
        """Returns the inputs that no unit is connected with, as a stride may leave some."""
        unread = np.ones(self.num_sources, dtype=bool)
        unread[self.sources[self.sources >= 0]] = False
        places = np.flatnonzero(unread)
        groups = range(len(self.weight))
        return np.concatenate([self.inputs_of(Block(group, places, places)) for group in groups])

    def matrix_of(self, block: Block) -> Float64[ndarray, "units inputs"]:
        """Returns the rows of a block's units at its inputs, dense."""
        _, outs, ins, taps = self.weight.shape
        shape = outs, len(block.places), ins, len(block.sources)
        matrix = np.zeros(shape)
        columns = np.zeros(self.num_sources, dtype=np.int64)
        columns[block.sources] = np.arange(len(block.sources))
        for tap in range(taps):
            sources = self.sources[tap, block.places]
            (read,) = np.nonzero(sources >= 0)
            # Padding by reflection has several taps of a unit read one place: they add up.
            matrix[:, read, :, columns[sources[read]]] += self.weight[block.group, :, :, tap]
        return matrix.reshape(shape[0] * shape[1], shape[2] * shape[3])

    def rows(self, units: Int64[ndarray, "units"]) -> Matrix:
        """Returns the rows of some units, sparse."""
        groups, outs, ins, taps = self.weight.shape
        num_places = self.sources.shape[1]
        sizes = (num_places, groups * outs) if self.channels_last else (groups * outs, num_places)
        found = np.unravel_index(units, sizes)
        channel, place = found[::-1] if self.channels_last else found
        shape = (len(units), ins, taps)
        source = np.broadcast_to(self.sources[:, place].T[:, None], shape)
        inputs = (channel // outs * ins)[:, None] + np.arange(ins)
        steps = (1, groups * ins) if self.channels_last else (self.num_sources, 1)
        column = inputs[:, :, None] * steps[0] + source * steps[1]
        row = np.broadcast_to(np.arange(len(units))[:, None, None], shape)
        values = self.weight[channel // outs, channel % outs]
        read = source >= 0
        return from_entries(values[read], row[read], column[read], (len(units), self.num_inputs))


def connections_of(module: nn.Linear | nn.Conv2d, shape: tuple[int, ...]) -> Connections:
    """Reads the connections of a linear layer or a convolution.

    Args:
        module: With any kernel, stride, padding, dilation and groups; also of a subclass that pads
            in a way of its own. In float64 on the CPU.
        shape: Of an input, with its batch.

    Raises:
        NetworkError: If the module does something else than multiply with its weight.
    """
    weight = module.weight.detach().numpy()
    if isinstance(module, nn.Linear):
        num_places = math.prod(shape[1:-1])
        return Connections(weight[None, :, :, None], np.arange(num_places)[None], num_places, True)
    if len(shape) != 4:
        raise NetworkError(f"its input should be a batch of images, but is of shape {shape}")
    grouped = weight.reshape(module.groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
    return Connections(grouped, _sources(module, shape[-2:]), math.prod(shape[-2:]))


def _sources(module: nn.Conv2d, size: tuple[int, ...]) -> Int64[ndarray, "taps places"]:
    """Asks a convolution which place each tap reads: on an image of numbers, each tap alone."""
    kernel = module.weight.shape[2:]
    taps = math.prod(kernel)
    one_tap = torch.eye(taps, dtype=torch.float64).reshape(taps, 1, *kernel)
    weights = {"weight": one_tap.repeat(module.groups, 1, 1, 1)}
    if module.bias is not None:
        weights["bias"] = torch.zeros(module.groups * taps, dtype=torch.float64)
    # From 1 on: padding reads 0.
    numbers = torch.arange(1.0, math.prod(size) + 1, dtype=torch.float64).reshape(1, 1, *size)
    try:
        with torch.no_grad():
            read = functional_call(module, weights, (numbers.repeat(1, module.groups, 1, 1),))
        found = read[0, :taps].flatten(1).numpy()
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"what it reads cannot be told ({type(error).__name__})") from error
    places = found.round()
    if not (abs(found - places).max(initial=0.0) < 1e-6 and (places >= 0).all()):
        raise NetworkError("it does something else than multiply with its weight")
    return np.asarray(places.astype(np.int64) - 1)
