"""The transfer stage: whether what collides at one layer collides in other layers and networks."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from patchcollide.config import Config
from patchcollide.errors import ImageError, NetworkError, RunError
from patchcollide.evaluation.dataset import DatasetImages
from patchcollide.evaluation.gaps import random_pairs
from patchcollide.evaluation.simplex import combine, round_to_8_bits, uniform_weights
from patchcollide.evaluation.transfer import (
    Cell,
    Figures,
    NetworkNamed,
    TransferAbout,
    TransferMatrix,
    features_at,
    measure_pairs,
    measure_transfer,
)
from patchcollide.images.pictures import read_png
from patchcollide.images.tensors import as_batch
from patchcollide.io.provenance import printable
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.loading import ALL, NetworkSpec, load_network, merge_specs
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import units_of_layers
from patchcollide.randomness import Purpose, seeded, seeded_numpy
from patchcollide.runs.folder import Run, open_run
from patchcollide.runs.vertices import load_vertex_pngs
from patchcollide.shapes import Float, Tensor
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferOptions:
    """What is measured.

    Attributes:
        layers: Of networks for which none are named: ``all`` usable ones, names, or nothing for
            the network's usual one.
        num_samples: Points between each run's vertices; None for as many as the run's own
            evaluation took, which are then the same.
        images: A folder of the data set's images, for random pairs.
        mixed: Whether runs may be of different layers.
    """

    layers: tuple[str, ...] = ()
    num_samples: int | None = None
    images: Path | None = None
    mixed: bool = False


@proof_modes()
def transfer(
    config: Config, folders: Sequence[Path], specs: Sequence[NetworkSpec], options: TransferOptions
) -> TransferMatrix:
    """Measures whether the vertices of runs, and what lies between, collide in other places.

    The vertices are those of the PNG files, of 8 bits; points between them are rounded to 8 bits.
    They, the target and the source are resized as each network needs it. The target's features are
    those of its picture at each layer of each network.

    Args:
        config: Sections ``network``, of which device, precision and tolerance matter, ``images``
            and ``evaluation``; and the seed.
        folders: Of finished runs.
        specs: Networks and layers; those the runs were made with if there are none.
        options: What is measured.

    Raises:
        RunError: If a folder holds no finished run, a target was given as features, or runs are of
            different layers and ``options`` does not allow it.
        NetworkError: If a network, its weights or a layer cannot be used, or takes images of other
            channels than a run's.
        ImageError: If ``options.images`` has not two images.
    """
    runs = _named(folders)
    for run in runs.values():
        _require_picture(run)
    if not options.mixed:
        _require_one_layer(runs)
    cells: list[Cell] = []
    null: dict[tuple[str, str], Figures] = {}
    networks: list[NetworkNamed] = []
    wanted = merge_specs(specs or [_spec_of(run, options.layers) for run in runs.values()])
    for label, spec in _labelled(wanted).items():
        network = load_network(spec.settings(config.network), config.seed)
        layers = _layers(network, spec.layers or options.layers)
        networks.append({"network": label, "digest": network.digest, "layers": [*layers]})
        for name, run in runs.items():
            _require_channels(name, run, network)
            logger.info("%s in %s: %d layers", name, label, len(layers))
            cells += _cells(name, run, network, label, layers, options.num_samples)
        if options.images is not None:
            pairs = _null(config, network, layers, options.images)
            null |= {(label, layer): figures for layer, figures in pairs.items()}
    about: TransferAbout = {
        "runs": [
            {"run": name, "path": printable(run.folder), "fingerprint": run.fingerprint}
            for name, run in runs.items()
        ],
        "networks": networks,
        "images": printable(options.images) if options.images else None,
        "settings": config.model_dump(mode="json"),
        "seed": config.seed,
    }
    samples = {name: _num_samples(run, options.num_samples) for name, run in runs.items()}
    return TransferMatrix(tuple(cells), null, samples, about)


def _named(folders: Sequence[Path]) -> dict[str, Run]:
    """Opens runs, by the names of their folders, or by their paths where names are not enough."""
    names = [folder.resolve().name for folder in folders]
    return {
        name if names.count(name) == 1 else str(folder): open_run(folder)
        for name, folder in zip(names, folders, strict=True)
    }


def _require_picture(run: Run) -> None:
    if run.target_file != "target.png":
        raise RunError(
            f"{run.folder} was made to collide with features, so there is no picture of its target "
            "that another layer or network could see. Make the run with the image as its target."
        )


def _require_one_layer(runs: Mapping[str, Run]) -> None:
    layers: dict[tuple[str, str], list[str]] = {}
    for name, run in runs.items():
        key = run.about["identity"]["layer"], run.config.network.name
        layers.setdefault(key, []).append(name)
    if len(layers) > 1:
        found = "; ".join(
            f"{layer} of {network} ({', '.join(names)})"
            for (layer, network), names in layers.items()
        )
        raise RunError(
            f"Runs of one table should be of one layer, but these are of several: {found}. Give "
            "those of one layer, or --mixed if rows need not compare."
        )


def _require_channels(name: str, run: Run, network: CollisionNetwork) -> None:
    channels = load_vertex_pngs(run).shape[-1]
    if channels != network.channels:
        kinds = {1: "grey", 3: "RGB"}
        raise NetworkError(
            f"{name} holds {kinds[channels]} images, but {network.full_name} takes "
            f"{kinds[network.channels]}. Compare networks that take the same."
        )


def _spec_of(run: Run, layers: tuple[str, ...]) -> NetworkSpec:
    """Returns the network of a run, at its own layer unless others are wanted."""
    settings = run.config.network
    own = (run.about["identity"]["layer"],)
    said = settings.model_dump(exclude_defaults=True)
    names = ("input_size", "mean", "scale", "output")
    seen = tuple((name, said[name]) for name in names if name in said)
    return NetworkSpec(settings.name, settings.weights, layers or own, seen)


def _labelled(specs: Sequence[NetworkSpec]) -> dict[str, NetworkSpec]:
    """Returns networks by their labels; of weights files of one name by their paths."""
    labels = [spec.label for spec in specs]
    return {
        label if labels.count(label) == 1 else f"{spec.name}={spec.weights}": spec
        for label, spec in zip(labels, specs, strict=True)
    }


def _layers(network: CollisionNetwork, wanted: Sequence[str]) -> dict[str, BlindRegions]:
    """Returns the layers that are asked for, by their own names, and where they are blind."""
    if ALL in wanted:
        wanted = list(units_of_layers(network))
    return dict(network.find_layer(layer) for layer in wanted or [network.layer])


def _num_samples(run: Run, wanted: int | None) -> int:
    return run.config.evaluation.num_samples if wanted is None else wanted


def _cells(
    name: str,
    run: Run,
    network: CollisionNetwork,
    label: str,
    layers: Mapping[str, BlindRegions],
    num_samples: int | None,
) -> Iterator[Cell]:
    picture, source_picture = read_png(run / "target.png"), read_png(run / "source.png")
    target = features_at(network, layers, as_batch(picture[None]))
    hull = measure_transfer(network, target, _samples(run, _num_samples(run, num_samples)))
    source: Mapping[str, Figures] = {}
    if not np.array_equal(picture, source_picture):
        source = measure_transfer(network, target, [as_batch(source_picture[None])])
    identity = run.about["identity"]
    for layer in layers:
        features = target.features[layer]
        yield Cell(
            run=name,
            network=label,
            layer=layer,
            own=(identity["network"], identity["layer"]) == (network.digest, layer),
            target_class=network.class_name(target.class_index),
            target_probability=target.probability,
            num_units=len(features.active),
            num_active=int(features.active.sum()),
            hull=hull[layer],
            source=source.get(layer),
        )


def _samples(run: Run, count: int) -> Iterator[Float[Tensor, "batch channels height width"]]:
    """Yields points between vertices, drawn as the run's own evaluation draws them."""
    vertices = as_batch(load_vertex_pngs(run))
    weights = uniform_weights(count, len(vertices), seeded(run.config.seed, Purpose.HULL))
    for part in torch.split(weights, run.config.evaluation.batch_size):
        yield round_to_8_bits(combine(part, vertices))


def _null(
    config: Config, network: CollisionNetwork, layers: Mapping[str, BlindRegions], folder: Path
) -> dict[str, Figures]:
    images = DatasetImages(folder, config, network).draw()
    if len(images) < 2:
        raise ImageError(f"{folder} should hold two images or more, for pairs. Choose another.")
    pairs = random_pairs(len(images), None, seeded_numpy(config.seed, Purpose.CONTROL_PAIRS))
    return measure_pairs(network, layers, as_batch(np.stack(images)), pairs)
