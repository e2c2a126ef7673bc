"""Finding polytopes from Python: any network, images in files or in memory, no folder needed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError, ImageError, RunError
from patchcollide.evaluation.summary import ExactRecord
from patchcollide.images.pictures import picture_size, read_square
from patchcollide.images.pillow import Picture
from patchcollide.networks.factories import ask_for
from patchcollide.networks.feature_files import read_target
from patchcollide.networks.loading import load_network, network_of_module
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.picking import Pick
from patchcollide.networks.targets import Target
from patchcollide.optimisation.exact import as_found, measure_extents, solve_vertices
from patchcollide.optimisation.methods.registry import require_applicable, require_bound
from patchcollide.optimisation.vertices import FoundVertices, find_by_method
from patchcollide.polytope import Polytope
from patchcollide.retrieval.engines import open_searcher
from patchcollide.retrieval.neighbours import Neighbours, require_neighbours_of
from patchcollide.retrieval.policy import find_neighbours
from patchcollide.runs.folder import describe
from patchcollide.runs.inputs import IN_MEMORY, CollisionInputs, announce, require_two_pictures
from patchcollide.store.reader import PatchStore, open_store
from patchcollide.torch_modes import proof_modes

__all__ = ["find_polytope"]

Settings = Config | Mapping[str, Any] | Iterable[str]


@proof_modes(grad=True)
def find_polytope(
    network: str | CollisionNetwork | nn.Module,
    layer: str,
    source: Picture,
    target: Picture,
    *,
    store: str | Path | None = None,
    neighbours: str | Path | None = None,
    exact: bool = False,
    tightness: float | None = None,
    settings: Settings = (),
    seed: int | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    scale: Sequence[float] | None = None,
    class_names: Sequence[str] = (),
    output: Pick = None,
) -> Polytope:
    """Finds images that look like one image and have the features of another.

    It does what ``patchcollide collide`` does, or ``patchcollide exact``, and finds the same
    vertices; nothing is written.

    Args:
        network: A name that the settings know, a :class:`CollisionNetwork`, or any module from
            ``(batch, channels, input_size, input_size)`` to logits, which is left as it is.
        layer: The name of a run of an activation; empty for the network's own default.
        source: The image whose look is kept: a path, a picture of Pillow's, or an uint8 array
            (height, width), with 1 or 3 channels or none.
        target: The image whose features are matched; the same, or the path of a file of features.
        store: Compose the source from patches of this store.
        neighbours: Compose it from neighbours found before. With neither, pixels vary freely.
        exact: Find vertices by linear programs; the layer must be affine in the image.
        tightness: How far features between the vertices may be from the target's, as a share of
            theirs, 0 to 1: vertices move as far apart as that lets them. None for the settings'.
        settings: A :class:`Config`, or what differs from the defaults, by name as in
            ``{"optimiser.steps": 200}`` or as in ``["optimiser.steps=200"]``.
        seed: Of everything random; None for the settings'.
        input_size: Side of a module's images, in pixels; None for what its library says.
        mean: What it wants subtracted from images in ``[0, 1]``, for RGB or grey; None as before.
        scale: What it wants them then divided by.
        class_names: Of a module's classes.
        output: Which of the things it returns are its logits: a name, a number, or a function.

    Returns:
        The polytope, not evaluated yet.

    Raises:
        InputError: If an image, the network, its layer, the store or a setting cannot be used.
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it.
    """
    _require_one_origin(store, neighbours, exact)
    given = _tightened(_settings(settings, seed), tightness, exact=exact)
    given = _with_inputs(given, input_size, mean, scale, output)
    config, built = _network(given, network, layer, class_names, output)
    origin = _origin(config, store, neighbours)
    asked = _Asked(source, target, origin, exact, own_network=not isinstance(network, str))
    return _find(config, built, asked)


@dataclass(frozen=True)
class _Asked:
    """What vertices are asked for, as :class:`CollisionInputs` has it once pictures are read."""

    source: Picture
    target: Picture
    origin: PatchStore | Path | None
    exact: bool
    own_network: bool


def _find(config: Config, network: CollisionNetwork, asked: _Asked) -> Polytope:
    inputs = CollisionInputs(
        source_path=_place(asked.source),
        target_path=_place(asked.target),
        source=read_square(config, asked.source, network.input_size, network.channels),
        target=_target(config, network, asked.target),
        origin=asked.origin,
        exact=asked.exact,
        own_network=asked.own_network,
    )
    if inputs.exact:
        _require_size(network, asked.source, asked.target)
    else:
        require_two_pictures(config, inputs)
    announce(config, network, inputs)
    neighbours = _neighbours(config, inputs, asked)
    find = _solve if inputs.exact else _descend
    found, figures = find(config, network, inputs, neighbours)
    described = inputs.described(config, network, Path("RUN"))
    return Polytope(
        about=describe(config, described, inputs.identity(network)),
        source=inputs.source,
        target_picture=inputs.target.picture,
        vertices=np.rint(found.unrounded).astype(np.uint8),
        neighbours=neighbours,
        exact=figures,
        _network=network,
        _target=inputs.target,
        **vars(found),
    )


def _require_one_origin(
    store: str | Path | None, neighbours: str | Path | None, exact: bool
) -> None:
    if store and neighbours:
        raise RunError("Patches come from a store or from neighbours found before. Give one.")
    if store and exact:
        raise RunError(
            "Exact polytopes take neighbours found before, not a store. Find them with "
            "`patchcollide retrieve`, and give neighbours=."
        )


def _settings(given: Settings, seed: int | None) -> Config:
    if isinstance(given, Config):
        config = given
    elif isinstance(given, Mapping):
        # JSON's notation of text and numbers is also TOML's.
        config = load_config(overrides=[f"{key}={json.dumps(given[key])}" for key in given])
    else:
        config = load_config(overrides=given)
    return config if seed is None else config.model_copy(update={"seed": seed})


def _tightened(config: Config, tightness: float | None, *, exact: bool) -> Config:
    if tightness is None:
        return config
    if exact:
        raise ConfigError(
            "Exact vertices have the target's features, so there is no tightness to ask for. Leave "
            "one of exact= and tightness= out."
        )
    if not 0 < tightness < 1:
        raise ConfigError(
            f"tightness= should be a number between 0 and 1, such as 0.1, but is {tightness}."
        )
    objective = config.objective.model_copy(update={"tightness": float(tightness)})
    tightened = config.model_copy(update={"objective": objective})
    require_bound(tightened)
    return tightened


def _with_inputs(
    config: Config,
    input_size: int | None,
    mean: Sequence[float] | None,
    scale: Sequence[float] | None,
    output: Pick,
) -> Config:
    """Returns settings that also say what a network's images go through, as far as it was said."""
    said: dict[str, Any] = {
        "input_size": input_size,
        "mean": mean and tuple(mean),
        "scale": scale and tuple(scale),
        "output": None if output is None or callable(output) else str(output),
    }
    return _renamed(config, **{key: value for key, value in said.items() if value is not None})


def _network(
    config: Config,
    network: str | CollisionNetwork | nn.Module,
    layer: str,
    class_names: Sequence[str],
    output: Pick,
) -> tuple[Config, CollisionNetwork]:
    """Returns the network, and settings that name it."""
    if isinstance(network, str):
        named = {"name": network, "layer": layer or config.network.layer}
        config = _renamed(config, **named)
        ask_for(network)
        return config, load_network(config.network, config.seed)
    if isinstance(network, CollisionNetwork):
        built = network.at_layer(layer) if layer and layer != network.layer else network
    else:
        settings = config.network.model_copy(update={"layer": layer or config.network.layer})
        built = network_of_module(network, settings, class_names, output)
        built.folded = settings.folded
    return _renamed(config, name=built.name, layer=built.layer, folded=built.folded), built


def _renamed(config: Config, **changed: Any) -> Config:
    return config.model_copy(update={"network": config.network.model_copy(update=changed)})


def _origin(
    config: Config, store: str | Path | None, neighbours: str | Path | None
) -> PatchStore | Path | None:
    if store:
        return open_store(config, Path(store))
    return Path(neighbours) if neighbours else None


def _place(picture: Picture) -> Path:
    return Path(picture) if isinstance(picture, str | Path) else IN_MEMORY


def _target(config: Config, network: CollisionNetwork, target: Picture) -> Target:
    if isinstance(target, str | Path):
        return read_target(config, network, Path(target))
    picture = read_square(config, target, network.input_size, network.channels)
    return Target.of_picture(network, picture)


def _require_size(network: CollisionNetwork, *pictures: Picture) -> None:
    size = network.input_size
    for picture in pictures:
        width, height = picture_size(picture)
        if (width, height) != (size, size):
            raise ImageError(
                f"A picture has {width} x {height} pixels, but {network.full_name} takes {size} x "
                f"{size}. An exact polytope is of the image itself, so it is not resized: scale it "
                "first."
            )


def _neighbours(config: Config, inputs: CollisionInputs, asked: _Asked) -> Neighbours | None:
    """Finds or reads what to compose from; None for free pixels."""
    if inputs.origin is None:
        return None
    picture = read_square(config, asked.source, config.images.size_px)
    if isinstance(inputs.origin, Path):
        found = Neighbours.load(inputs.origin)
        require_neighbours_of(config, picture, found, str(inputs.origin), "the source given")
        return found
    known = inputs.target.picture is not None
    others = [read_square(config, asked.target, config.images.size_px)] if known else []
    searcher = open_searcher(config, inputs.origin)
    return find_neighbours(config, picture, others, inputs.origin, searcher)


def _descend(
    config: Config,
    network: CollisionNetwork,
    inputs: CollisionInputs,
    neighbours: Neighbours | None,
) -> tuple[FoundVertices, ExactRecord | None]:
    require_applicable(config, pixels=neighbours is None)
    return find_by_method(config, network, inputs.source, inputs.target, neighbours), None


def _solve(
    config: Config,
    network: CollisionNetwork,
    inputs: CollisionInputs,
    neighbours: Neighbours | None,
) -> tuple[FoundVertices, ExactRecord | None]:
    exact, vertices, figures = solve_vertices(config, network, inputs.target, neighbours)
    found = as_found(network, vertices)
    if config.exact.extents:
        figures["extents"] = measure_extents(config.exact, exact, config.seed)
    return found, figures
