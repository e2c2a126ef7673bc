"""A layer's pre-activation as an affine function: of the image, or of a linear module's input.

Of the image it is one, an :class:`ImageMap`, where nothing before the layer bends. The module of a
:class:`ModuleMap` is the last ``nn.Linear`` or ``nn.Conv2d`` that ran before the layer's
activation. What lies between must act on each unit by itself, as a batch norm in evaluation mode
does; what is added without passing the module, as by a skip connection, is part of the offset. The
first is one dense matrix whatever linear steps there are; the second, of layers far too large for
that, is built block by block. Nothing is taken on trust: that nothing bends is told from
the operators that run, which leaves a matrix to be known, and each map is tried with another input,
of which no two matrices make the same but by chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.errors import NetworkError
from patchcollide.networks.connections import Block, Connections, connections_of
from patchcollide.networks.hooks import hooked
from patchcollide.networks.linear_regions.lines import Bounds, Line
from patchcollide.networks.linear_regions.rays import Ray, straight_line
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import PIXELS, InputKind, LinearModule, Trace
from patchcollide.polyhedra.matrices import dense
from patchcollide.shapes import Float64, Int64, Tensor, ndarray
from patchcollide.torch_modes import proof_modes

MAX_BYTES = 2 << 30

_BATCH_SIZE = 256

# Of the largest value: float64 takes a millionth of it, and what is not affine far more.
_SAME_SHARE = 1e-9

_TRIED_ROWS = 64


@dataclass(frozen=True, eq=False)
class ImageMap:
    """What a layer makes of an image: ``matrix @ image + offset``.

    Attributes:
        matrix: One row a unit, over the image's values in ``[0, 1]`` in channel, height, width
            order.
        offset: Of each unit.
        network: In float64, to compare with.
    """

    matrix: Float64[ndarray, "units values"]
    offset: Float64[ndarray, "units"]
    network: CollisionNetwork

    @proof_modes()
    def require_right(self, images: Float64[ndarray, "images values"], what: str) -> None:
        """Compares with the network itself.

        Args:
            images: Flat; they may leave ``[0, 1]``.
            what: Of what kind, in the plural, for errors.

        Raises:
            NetworkError: If the network gives something else.
        """
        network = self.network
        shape = (-1, network.channels, network.input_size, network.input_size)
        with torch.no_grad():
            found = network.pre_activation(torch.from_numpy(images).reshape(shape)).cpu().numpy()
        products = images @ self.matrix.T
        size = max(abs(products).max(initial=0.0), abs(self.offset).max(initial=0.0))
        gap = abs(found - products - self.offset).max(initial=0.0)
        if not gap <= _SAME_SHARE * size:
            raise NetworkError(
                f"Layer '{network.layer}' of {network.name} was read as an affine function of the "
                f"image, but at {what} the network differs from it by up to {gap:.3g}, where "
                f"values reach {size:.3g}. Look for what makes it compute otherwise from one pass "
                "to the next; use `patchcollide collide` meanwhile."
            )


@proof_modes()
def read_image_map(network: CollisionNetwork, max_bytes: int = MAX_BYTES) -> ImageMap:
    """Reads a network's layer as an affine function, by what it makes of each single value.

    That it is one is told from what the network computes, operator by operator, and not from its
    values: nothing on the way from the image may bend.

    Args:
        network: The network and its layer.
        max_bytes: How large the matrix may be.

    Raises:
        NetworkError: If the layer is not affine in the image, or not known to be, or its matrix is
            too large.
    """
    num_values = network.channels * network.input_size**2
    _require_small(network, num_values, max_bytes)
    double = network.in_float64()
    matrix = np.empty((network.units, num_values))
    offset = np.empty(network.units)
    for first, batch in _unit_images(num_values):
        line = _line_to_layer(double, batch)
        matrix[:, first : first + len(batch)] = line.slope.T.cpu().numpy()
        offset[:] = line.value[0].cpu().numpy()
    return ImageMap(matrix, offset, double)


@proof_modes()
def require_affine(double: CollisionNetwork, max_bytes: int = MAX_BYTES) -> None:
    """Refuses a layer that :func:`read_image_map` would refuse, without its matrix.

    Args:
        double: The network and its layer, in float64.
        max_bytes: How large the matrix may be.

    Raises:
        NetworkError: As there.
    """
    num_values = double.channels * double.input_size**2
    _line_to_layer(double, torch.eye(1, num_values, dtype=torch.float64))
    _require_small(double, num_values, max_bytes)


def _require_small(network: CollisionNetwork, num_values: int, max_bytes: int) -> None:
    needed = 8 * num_values * network.units
    if needed > max_bytes:
        raise NetworkError(
            f"Layer '{network.layer}' of {network.name} has {network.units} units and its input "
            f"{num_values} values: as a matrix {needed / 2**30:.1f} GB, more than the "
            f"{max_bytes / 2**30:.1f} GB that exact polytopes may take. Choose a smaller layer or "
            "network, or use `patchcollide collide`."
        )


def _unit_images(num_values: int) -> Iterator[tuple[int, Tensor]]:
    """Yields the rows of the identity, a batch at a time, and the first one's number."""
    for first in range(0, num_values, _BATCH_SIZE):
        count = min(_BATCH_SIZE, num_values - first)
        batch = torch.zeros(count, num_values, dtype=torch.float64)
        batch[torch.arange(count), first + torch.arange(count)] = 1
        yield first, batch


def _line_to_layer(double: CollisionNetwork, directions: Float64[Tensor, "images values"]) -> Line:
    """Returns the layer's values at a black image, and their slopes along directions from it."""
    shape = (-1, double.channels, double.input_size, double.input_size)
    slope = directions.reshape(shape).to(double.device)
    line = Line(torch.zeros_like(slope), slope, Bounds(len(slope), slope.device, may_bend=False))
    try:
        found = straight_line(double.pre_activation, double.module, line)
    except NetworkError as error:
        raise NetworkError(
            f"Layer '{double.layer}' of {double.name} is not affine in the image: the first step "
            f"before it that is not is {error}. Exact polytopes need a layer before that; for this "
            "one use `patchcollide collide`."
        ) from error
    if isinstance(found, Line):
        return found
    return line.to(found, torch.zeros_like(found))


@dataclass(frozen=True, eq=False)
class ModuleMap:
    """What a layer computes of its module's input: ``matrix @ target + offset`` at an image.

    Attributes:
        layer: The activation's name.
        module: The name of the module.
        input_kind: Which values these are, and their range.
        target: Those of the image; pixels as they are in ``[0, 1]``.
        pre_activation: Of the image.
        connections: Of the module.
        unit_factors: What becomes of the output between module and activation.
        input_factors: How fast the module's input changes with ``target``.
        step: Another input less the target.
        change: What became of the pre-activation there.
    """

    layer: str
    module: str
    input_kind: InputKind
    target: Float64[ndarray, "inputs"]
    pre_activation: Float64[ndarray, "units"]
    connections: Connections
    unit_factors: Float64[ndarray, "units"]
    input_factors: Float64[ndarray, "inputs"]
    step: Float64[ndarray, "inputs"]
    change: Float64[ndarray, "units"]

    def rows(self, units: Int64[ndarray, "units"]) -> Float64[ndarray, "units inputs"]:
        """Returns rows of the matrix, over all inputs.

        Raises:
            NetworkError: If the network does not do what they say.
        """
        rows = dense(self.connections.rows(units))
        matrix = rows * self.unit_factors[units, None] * self.input_factors
        self._require_right(matrix, units, slice(None))
        return np.asarray(matrix)

    def matrix_of(self, block: Block) -> Float64[ndarray, "units inputs"]:
        """Returns the rows of a block's units, over the block's inputs; errors as of rows."""
        units, inputs = self.connections.units_of(block), self.connections.inputs_of(block)
        matrix = self.connections.matrix_of(block)
        matrix *= self.unit_factors[units, None]
        matrix *= self.input_factors[inputs]
        self._require_right(matrix, units, inputs)
        return matrix

    def try_rows(self) -> None:
        """Tries some rows, evenly spread; errors as of rows."""
        units = self.connections.num_units
        chosen = np.unique(np.linspace(0, units - 1, min(units, _TRIED_ROWS)).astype(np.int64))
        rows = self.connections.rows(chosen)
        change = self.unit_factors[chosen] * (rows @ (self.input_factors * self.step))
        self._require_same(change, self.change[chosen])

    def _require_right(self, matrix: ndarray, units: ndarray, inputs: ndarray | slice) -> None:
        self._require_same(matrix @ self.step[inputs], self.change[units])

    def _require_same(self, expected: ndarray, found: ndarray) -> None:
        size = max(abs(self.pre_activation).max(initial=0.0), abs(self.change).max(initial=0.0))
        if not abs(expected - found).max(initial=0.0) <= _SAME_SHARE * size:
            raise NetworkError(f"it does not change as the weights of '{self.module}' say")


@proof_modes()
def read_module_map(trace: Trace, layer: str) -> ModuleMap:
    """Reads a layer as an affine map of the input of the linear module before it.

    Args:
        trace: Of an image through the network.
        layer: The activation's own name, one of the trace's.

    Raises:
        NetworkError: If it is none, or the activation or the module do not run exactly once; says
            only why.
    """
    linear = trace.linear_before(layer)
    name, kind, image = trace.name_of(linear), trace.input_kind(linear), trace.image
    probe = _Probe(linear)
    _require_straight(trace, layer, linear)
    z = probe.run(trace, layer)
    factors = _unit_factors(probe, z, name)
    input_factors = torch.ones_like(probe.step)
    target = probe.entered
    if kind == PIXELS:
        prepared = trace.network.prepared
        input_factors = (prepared(torch.ones_like(image)) - prepared(torch.zeros_like(image)))[0]
        input_factors, target = input_factors.flatten(), image.flatten()
    try:
        connections = connections_of(linear, probe.shape)
    except NetworkError as error:
        raise NetworkError(f"of '{name}': {error}") from error
    found = ModuleMap(
        layer=layer,
        module=name,
        input_kind=kind,
        target=target.numpy(),
        pre_activation=z[0].numpy(),
        connections=connections,
        unit_factors=factors.numpy(),
        input_factors=input_factors.numpy(),
        step=(probe.step / input_factors).numpy(),
        change=(z[1] - z[0]).numpy(),
    )
    found.try_rows()
    return found


def _require_straight(trace: Trace, layer: str, linear: LinearModule) -> None:
    """Raises :class:`NetworkError` if something between a module's input and a layer bends."""
    network = trace.network.showing(trace.calls[layer])
    image, name = trace.image, trace.name_of(linear)

    def enter(ray: Ray) -> Ray:
        value, generator = ray.line.value, torch.Generator().manual_seed(0)
        slope = torch.randn(value.shape, generator=generator, dtype=value.dtype)
        return Ray(Line(value.clone(), slope.to(value), ray.line.bounds))

    # What comes before the module does not move, so it may do anything.
    still = Line(image, torch.zeros_like(image), Bounds(1, image.device, may_bend=False))
    with hooked(linear, enter):
        try:
            straight_line(network.pre_activation, network.module, still)
        except NetworkError as error:
            raise NetworkError(
                f"what lies between it and '{name}' is not affine unit by unit: {error}"
            ) from error


class _Probe:
    """Three copies of an image: with another input of a module, and another output, in turn."""

    def __init__(self, linear: LinearModule) -> None:
        self._linear = linear

    def run(self, trace: Trace, layer: str) -> Float64[Tensor, "3 units"]:
        """Returns the layer's pre-activation of each."""
        network = trace.network.showing(trace.calls[layer])
        with hooked(self._linear, self._step, self._lift), torch.no_grad():
            return network.pre_activation(trace.image.expand(3, -1, -1, -1))

    def _step(self, value: Tensor) -> Tensor:
        if len(value) != 3:
            raise NetworkError(f"its module sees {len(value)} rows for three images")
        generator = torch.Generator().manual_seed(0)
        step = torch.randn(value.shape[1:], generator=generator, dtype=value.dtype)
        # As large as the values themselves: a function that is affine only nearby is found out.
        step *= value.abs().amax().clamp(min=1)
        self.shape, self.entered, self.step = value.shape, value[0].flatten(), step.flatten()
        moved = value.clone()
        moved[1] += step
        return moved

    def _lift(self, _: Tensor, output: Tensor) -> Tensor:
        self.moved = (output[1] - output[0]).flatten()
        # A power of two, and no smaller than what it is added to: few digits are lost.
        self.height = float(output.abs().amax().clamp(min=1).log2().ceil().exp2())
        lifted = output.clone()
        lifted[2] += self.height
        return lifted


def _unit_factors(
    probe: _Probe, z: Float64[Tensor, "3 units"], name: str
) -> Float64[Tensor, "units"]:
    """Returns what each output of the module is multiplied with on its way into the activation."""
    if len(probe.moved) != z.shape[1]:
        raise NetworkError(
            f"'{name}' before it has {len(probe.moved)} outputs, but it has {z.shape[1]} units"
        )
    factors = (z[2] - z[0]) / probe.height
    if not factors.any():
        raise NetworkError(f"nothing of '{name}', the linear module before it, reaches it")
    size = z.abs().amax()
    if not ((factors * probe.moved) - (z[1] - z[0])).abs().amax() <= _SAME_SHARE * size:
        raise NetworkError(f"what lies between it and '{name}' is not affine unit by unit")
    return factors
