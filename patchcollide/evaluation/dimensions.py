"""How large the polytope of an image is at each layer of a network: Proposition 1, block by block.

The inputs are those of the linear module before a layer, as in Section 2 of the paper: images for
the first layer, else the previous layer's activations, pooled where the network pools them. The
stage that measures them of several images, and its file, are here too.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from patchcollide.config import Config
from patchcollide.errors import NetworkError, ProgramError
from patchcollide.formats import format_seconds, format_size
from patchcollide.images.pictures import read_square
from patchcollide.images.tensors import as_batch
from patchcollide.io.files import output_path, write_json
from patchcollide.io.provenance import Encoded, file_digest, printable, versions
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.affine import ModuleMap, read_module_map
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import InputKind, Trace
from patchcollide.polyhedra.proposition1 import Proposition1, bytes_needed, examine
from patchcollide.polyhedra.solver import MEMORY_BYTES
from patchcollide.shapes import Float64, ndarray

logger = logging.getLogger(__name__)

SECONDS = 300.0
"""What a layer may take for an image if the caller does not say."""

# Of the allowed time; before, too few blocks are done to say how long all take.
_TRIAL_SHARE = 0.1

ENCODING, VERSION = "dimensions", 1


@dataclass(frozen=True)
class LayerDimensions:
    """What Proposition 1 says of an image at a layer.

    Attributes:
        layer: The activation's name.
        units: Of the layer; None if it does not run exactly once.
        num_matched: ``|P|``: units with an equation; None if ``units`` is.
        module: The linear module before the layer; None if the layer is not affine in its input.
        input_kind: What goes into that, and its range; None if ``module`` is.
        dimension_of_inputs: ``d``: how many values go into it; None if ``module`` is.
        num_blocks: Independent ones the matrix falls apart into; None if ``module`` is.
        found: Ranks and what follows from them; None if they are not computed.
        not_computed: Why they are not.
    """

    layer: str
    units: int | None = None
    num_matched: int | None = None
    module: str | None = None
    input_kind: InputKind | None = None
    dimension_of_inputs: int | None = None
    num_blocks: int | None = None
    found: Proposition1 | None = None
    not_computed: str | None = None

    @property
    def bound(self) -> int | None:
        """``d - |P|``, the paper's lower bound of the dimension."""
        if self.dimension_of_inputs is None or self.num_matched is None:
            return None
        return self.dimension_of_inputs - self.num_matched


def measure_layer(
    trace: Trace,
    layer: str,
    blind: BlindRegions,
    *,
    memory_bytes: int = MEMORY_BYTES,
    seconds: float = SECONDS,
) -> LayerDimensions:
    """Measures the polytope of an image at a layer.

    Args:
        trace: Of the image through the network.
        layer: The activation's own name, one of the trace's.
        blind: Where it is constant.
        memory_bytes: The most that may be taken. What it would be is told from the sizes of the
            blocks, before any is built; above it only what needs no matrix is given.
        seconds: The most that may be taken, at about the pace of the first blocks.
    """
    z = trace.pre_activation(layer)
    known = LayerDimensions(layer)
    if z is not None:
        lower, upper = (end.numpy() for end in blind.intervals(z))
        known = LayerDimensions(layer, len(z), int((lower == upper).sum()))
    try:
        found = read_module_map(trace, layer)
    except NetworkError as error:
        return replace(known, not_computed=f"not affine in its input: {error}")
    known = replace(
        known,
        module=found.module,
        input_kind=found.input_kind,
        dimension_of_inputs=len(found.target),
        num_blocks=found.connections.num_blocks,
    )
    needed = _bytes_needed(found)
    if needed > memory_bytes:
        return replace(
            known,
            not_computed=(
                f"needs about {format_size(needed)}, may take {format_size(memory_bytes)}"
            ),
        )
    try:
        examined = _examined(found, lower, upper, memory_bytes)
        parts = _within(seconds, examined, found.connections.num_blocks)
    except (NetworkError, ProgramError) as error:
        return replace(known, not_computed=str(error))
    joined = Proposition1.joined(parts)
    return replace(known, found=joined, not_computed=joined.not_computed)


def _bytes_needed(found: ModuleMap) -> int:
    """Returns what the largest block takes: one is built, examined and dropped at a time."""
    span = found.input_kind.range
    return max(bytes_needed(*size, span) for size in found.connections.block_sizes())


def _within(seconds: float, parts: Iterator[Proposition1], num_parts: int) -> list[Proposition1]:
    """Collects parts; ProgramError if all would take longer than allowed."""
    start, done = time.perf_counter(), []
    for part in parts:
        done.append(part)
        spent = time.perf_counter() - start
        expected = spent * num_parts / len(done)
        if spent > _TRIAL_SHARE * seconds and expected > seconds and len(done) < num_parts:
            raise ProgramError(
                f"{num_parts} blocks would take about {format_seconds(expected)}, may take "
                f"{format_seconds(seconds)}"
            )
    return done


def _examined(
    found: ModuleMap,
    lower: Float64[ndarray, "units"],
    upper: Float64[ndarray, "units"],
    memory_bytes: int,
) -> Iterator[Proposition1]:
    """Yields what is known of each block, the smallest part last: inputs that no unit reads."""
    span = found.input_kind.range
    for block in found.connections.blocks():
        units, inputs = found.connections.units_of(block), found.connections.inputs_of(block)
        matrix, target = found.matrix_of(block), found.target[inputs]
        yield examine(
            matrix,
            found.pre_activation[units] - matrix @ target,
            lower[units],
            upper[units],
            target,
            input_range=span,
            memory_bytes=memory_bytes,
        )
    unread = found.target[found.connections.unread()]
    if len(unread):
        yield _unread(unread, span)


def _unread(values: Float64[ndarray, "inputs"], span: tuple[float, float]) -> Proposition1:
    """Returns what is known of inputs that go nowhere: one of them, so many times."""
    nothing = np.zeros(0)
    # Of all the nearest to its bounds, which says whether all are within.
    nearest = values[[np.minimum(values - span[0], span[1] - values).argmin()]]
    one = examine(np.zeros((0, 1)), nothing, nothing, nothing, nearest, input_range=span)
    return Proposition1.joined([one] * len(values))


@dataclass(frozen=True)
class Limits:
    """What a layer may take, for each image.

    Attributes:
        memory_bytes: See :func:`patchcollide.evaluation.dimensions.measure_layer`.
        seconds: See there.
    """

    memory_bytes: int = MEMORY_BYTES
    seconds: float = SECONDS


def measure_dimensions(
    config: Config,
    images: Sequence[Path],
    layers: Sequence[str] = (),
    limits: Limits | None = None,
    out: Path | None = None,
) -> dict[str, list[LayerDimensions]]:
    """Examines the polytopes of images at layers of a network.

    Args:
        config: Sections ``images`` and ``network``.
        images: One or more.
        layers: By their own names or their aliases; all usable ones if there are none.
        limits: What may be taken; the defaults if None.
        out: A JSON file to write as well.

    Returns:
        What is known of each layer, by its own name, for each image.

    Raises:
        InputError: If an image, the network, a layer or ``out`` cannot be used.
    """
    out = None if out is None else output_path(out)
    network = load_network(config.network, config.seed)
    blinds = dict(map(network.find_layer, layers or network.usable_layers))
    size, channels = network.input_size, network.channels
    pictures = [read_square(config, image, size, channels) for image in images]
    double = network.in_float64().to("cpu")
    found: dict[str, list[LayerDimensions]] = {layer: [] for layer in blinds}
    limits = limits or Limits()
    for image, picture in zip(images, pictures, strict=True):
        pixels = as_batch(picture[None], torch.float64)
        trace = Trace(double, pixels, list(blinds))
        for layer, blind in blinds.items():
            start = time.perf_counter()
            measured = measure_layer(
                trace,
                layer,
                blind,
                memory_bytes=limits.memory_bytes,
                seconds=limits.seconds,
            )
            spent = format_seconds(time.perf_counter() - start)
            logger.info("%s at %s: %s", image, layer, spent)
            found[layer].append(measured)
    if out is not None:
        write_json(out, _as_json(config, network, images, found))
    return found


class ImageFile(TypedDict):
    """An image that was measured, and the SHA-256 of its file."""

    path: str
    sha256: str


class LayerFile(TypedDict):
    """A layer, and the values of :class:`LayerDimensions` of each image, by their names."""

    layer: str
    images: list[dict[str, object]]


class DimensionsFile(Encoded):
    """What the JSON file holds."""

    network: str
    network_digest: str
    images: list[ImageFile]
    layers: list[LayerFile]
    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]


def _as_json(
    config: Config,
    network: CollisionNetwork,
    images: Sequence[Path],
    found: dict[str, list[LayerDimensions]],
) -> DimensionsFile:
    return {
        "encoding-type": ENCODING,
        "encoding-version": VERSION,
        "network": network.full_name,
        "network_digest": network.digest,
        "images": [{"path": printable(path), "sha256": file_digest(path)} for path in images],
        "layers": [
            {"layer": layer, "images": [_layer_as_json(one) for one in of_images]}
            for layer, of_images in found.items()
        ],
        "settings": config.model_dump(mode="json"),
        "seed": config.seed,
        "versions": versions(),
    }


def _layer_as_json(one: LayerDimensions) -> dict[str, object]:
    values = asdict(one) | {"bound": one.bound}
    del values["layer"]
    if one.input_kind is not None:
        ends = one.input_kind.range
        values["input_kind"]["range"] = [end if math.isfinite(end) else None for end in ends]
    return values
