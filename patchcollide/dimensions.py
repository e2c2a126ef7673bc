"""The dimensions stage: how large the polytopes of images are, layer by layer."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcollide.config import Config
from patchcollide.files import output_path, write_json
from patchcollide.highs import MEMORY_BYTES
from patchcollide.layer_dimensions import SECONDS, LayerDimensions, measure_layer
from patchcollide.layer_inputs import Trace
from patchcollide.networks import CollisionNetwork, load_network
from patchcollide.provenance import file_digest, printable, versions
from patchcollide.retrieval import read_square
from patchcollide.sizes import format_seconds

ENCODING, VERSION = "dimensions", 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a layer may take, for each image.

    Attributes:
        memory_bytes: See :func:`patchcollide.layer_dimensions.measure_layer`.
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
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].double() / 255
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


def _as_json(
    config: Config,
    network: CollisionNetwork,
    images: Sequence[Path],
    found: dict[str, list[LayerDimensions]],
) -> dict[str, Any]:
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


def _layer_as_json(one: LayerDimensions) -> dict[str, Any]:
    values = asdict(one) | {"bound": one.bound}
    del values["layer"]
    if one.input_kind is not None:
        ends = one.input_kind.range
        values["input_kind"]["range"] = [end if math.isfinite(end) else None for end in ends]
    return values
