"""Networks by the name that a library has for them, or that a function of the user's own has."""

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks.factories import build_by_factory
from patchcollide.networks.layers import LayerSpec
from patchcollide.networks.models.records import (
    NetworkRecord,
    preprocessing_of,
    record_of_module,
)
from patchcollide.networks.models.weights import (
    classes_of,
    fitted,
    load_weights,
    read_state_dict,
    require_no_digest,
)
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.preprocessing import Preprocessing
from patchcollide.shapes import Tensor

logger = logging.getLogger(__name__)

LIBRARIES = ("torchvision", "timm")

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class _Built:
    module: nn.Module
    record: NetworkRecord


def load_library_network(settings: Network, seed: int) -> CollisionNetwork:
    """Builds a network of torchvision or timm, or one that a function makes.

    Args:
        settings: Of the network; an empty layer is the last at which features can collide.
        seed: Of random weights; torch's global generators are left as they are.

    Raises:
        NetworkError: If there is no network of this name, or its weights, its layer or what its
            images are to go through cannot be used.
    """
    library, _, name = settings.name.partition(":")
    build = {"torchvision": _torchvision, "timm": _timm}.get(library)
    if build is None:
        built = _by_factory(settings, seed)
    else:
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the accelerators' generators too.
            torch.default_generator.manual_seed(seed)
            built = build(name, settings)
    network = CollisionNetwork(
        built.module,
        name=settings.name,
        layer=LayerSpec(settings.layer, tolerance=settings.tolerance),
        preprocessing=preprocessing_of(settings, built.record.preprocessing),
        output=settings.output or None,
    )
    if len(built.record.class_names) == network.num_classes:
        network.class_names = tuple(built.record.class_names)
    return network


def library_names(library: str) -> list[str]:
    """Returns the names of all networks of a library, in alphabetical order."""
    if library == "torchvision":
        from patchcollide.networks.models.torchvision_models import torchvision_names

        return torchvision_names()
    from patchcollide.networks.models.timm_models import timm_names

    return timm_names()


def _require_known(library: str, name: str) -> None:
    names = library_names(library)
    # Behind a dot, timm says which of its weights are meant.
    if name.partition(".")[0] in names:
        return
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean {library}:{close[0]}?" if close else "."
    raise NetworkError(
        f"{library} has no network '{name}'{guess} `patchcollide networks {library}` lists its "
        f"{len(names)}."
    )


def _torchvision(name: str, settings: Network) -> _Built:
    from patchcollide.networks.models import torchvision_models as library

    _require_known("torchvision", name)
    record, weights = library.record_of(name), settings.weights
    size = settings.input_size or record.preprocessing.input_size
    if weights == "random":
        require_no_digest(settings.sha256)
        return _Built(library.build_torchvision(name, size), record)
    if weights == "pretrained":
        found = library.read_pretrained(record.url, settings.sha256, settings.name)
    else:
        found = read_state_dict(weights, settings.sha256)
    found = library.renamed(name, found)
    own = weights == "pretrained" or weights.endswith(record.url.rpartition("/")[2])
    heads = any(key.startswith(("aux", "AuxLogits")) for key in found)

    def build(num_classes: int) -> nn.Module:
        return library.build_torchvision(
            name, size, num_classes=num_classes, own_weights=own, further_heads=heads
        )

    return _Built(_filled(build, found, weights), record)


def _timm(name: str, settings: Network) -> _Built:
    from patchcollide.networks.models.efficientnet_lite0 import imagenet_class_names
    from patchcollide.networks.models.timm_models import build_timm

    _require_known("timm", name)
    weights, size = settings.weights, settings.input_size
    if weights in ("random", "pretrained"):
        require_no_digest(settings.sha256, weights)
        module = build_timm(name, size, pretrained=weights == "pretrained")
    else:
        found = read_state_dict(weights, settings.sha256)
        module = _filled(
            lambda num_classes: build_timm(name, size, num_classes=num_classes), found, weights
        )
    record = record_of_module(module) or NetworkRecord(Preprocessing(224, (0.5,) * 3, (0.5,) * 3))
    return _Built(module, NetworkRecord(record.preprocessing, imagenet_class_names()))


def _filled(
    build: Callable[[int], nn.Module], found: Mapping[str, Tensor], where: str
) -> nn.Module:
    """Returns a network with weights, with as many classes as these have."""
    module = build(_IMAGENET_CLASSES)
    found = fitted(module.state_dict(), found, where)
    classes = classes_of(module.state_dict(), found)
    if classes is not None:
        logger.info("%s has a head of %d classes.", where, classes)
        module = build(classes)
    load_weights(module, found, where)
    return module


def _by_factory(settings: Network, seed: int) -> _Built:
    module = build_by_factory(settings.name, seed)
    if settings.weights in ("random", "pretrained"):
        require_no_digest(settings.sha256, settings.weights)
    else:
        load_weights(module, read_state_dict(settings.weights, settings.sha256), settings.weights)
    record = record_of_module(module)
    if record is None:
        if not settings.input_size:
            raise NetworkError(
                f"The network '{settings.name}' does not say how large its images are. Give it: "
                "--input-size PIXELS, and --mean and --scale if it wants normalised images."
            )
        channels = len(settings.mean or settings.scale) or 3
        record = NetworkRecord(
            Preprocessing(settings.input_size, (0.0,) * channels, (1.0,) * channels)
        )
    return _Built(module, record)
