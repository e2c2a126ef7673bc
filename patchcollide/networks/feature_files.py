"""Files of features: a layer's pre-activation of an image, which is a target without the image."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcollide.config import Config
from patchcollide.errors import TargetError
from patchcollide.images.pictures import read_square
from patchcollide.io.files import output_path
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.io.npz import open_npz
from patchcollide.io.provenance import fingerprint, printable, versions
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.shapes import Float32, Tensor
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)

ENCODING = "patchcollide-features"

VERSION = "1"

SUFFIX = ".h5"

RELEASED_SUFFIX = ".npz"

# What the authors' released files call the pre-activation of fc6.
_RELEASED_NAME = "featfc1"


@dataclass(frozen=True)
class Features:
    """What a file of features holds.

    Attributes:
        pre_activation: What goes into the layer's activation, in channel, height, width order.
        image: The path of the image they are of; None if the file does not say.
    """

    pre_activation: Float32[Tensor, "units"]
    image: str | None


def holds_features(path: Path) -> bool:
    """Says, by its suffix, whether a file holds features rather than an image."""
    return path.suffix.lower() in (SUFFIX, RELEASED_SUFFIX)


def read_features(path: Path, network: CollisionNetwork) -> Features:
    """Reads features of a network's layer.

    Args:
        path: An ``.h5`` that :func:`write_features` wrote, or an ``.npz`` as the authors of the
            paper released them: ``featfc1`` of shape (1, units), which does not say of which
            network and layer it is; what else it holds is not read.
        network: The network and layer they must be of.

    Raises:
        TargetError: If the file is missing or damaged, is of another network, other weights or
            another layer, has more or fewer values than the layer units, or holds values that are
            not finite.
    """
    if path.suffix.lower() == RELEASED_SUFFIX:
        features = Features(_read_released(path, network), None)
    else:
        features = _read_own(path, network)
    bad = int((~features.pre_activation.isfinite()).sum())
    if bad:
        raise TargetError(
            f"{path} holds {bad} values that are not finite, of {network.units}. Make it again, "
            "from weights and an image that give numbers."
        )
    return features


def write_features(
    path: Path,
    pre_activation: Float32[Tensor, "units"],
    network: CollisionNetwork,
    *,
    image: str | None,
    about: Mapping[str, Any],
) -> None:
    """Writes features, and of which network and layer they are.

    Args:
        path: The HDF5 file; an older one is replaced.
        pre_activation: What goes into the layer's activation.
        network: The network and layer they are of.
        image: The path of the image they are of; None if there is none.
        about: More attributes, such as a fingerprint.

    Raises:
        DiskFullError: If the disk is full.
    """
    write_hdf5(
        path,
        encoding=ENCODING,
        version=VERSION,
        datasets={"pre_activation": pre_activation.cpu().numpy()},
        attributes={
            "network": network.name,
            "layer": network.layer,
            "digest": network.digest,
            "image": image,
            "versions": versions(),
            **about,
        },
    )


def _read_released(path: Path, network: CollisionNetwork) -> Float32[Tensor, "units"]:
    with open_npz(path, error=TargetError) as archive:
        if _RELEASED_NAME not in archive.names:
            raise TargetError(
                f"{path} has no array '{_RELEASED_NAME}'. Save the pre-activation of the layer "
                f"under that name, as a float32 array of shape (1, {network.units})."
            )
        shape = archive.shape(_RELEASED_NAME)
        if shape not in ((1, network.units), (network.units,)):
            raise TargetError(
                f"{path} holds '{_RELEASED_NAME}' of shape {shape}, but layer '{network.layer}' of "
                f"{network.full_name} has {network.units} units. Give the network and the layer "
                "that the features are of: --network, --layer (of the authors' files, vgg16 and "
                "fc6)."
            )
        return torch.from_numpy(archive.array(_RELEASED_NAME, shape).reshape(-1))


def _read_own(path: Path, network: CollisionNetwork) -> Features:
    with open_hdf5(path, encoding=ENCODING, version=VERSION, error=TargetError) as file:
        expected = {"network": network.name, "layer": network.layer, "digest": network.digest}
        found = {name: file.attribute(name) for name in expected}
        if found != expected:
            raise TargetError(
                f"{path} holds features of {_named(found)}, but the network here is "
                f"{_named(expected)}. Give the network, layer and weights that the features are "
                "of, or make them again with `patchcollide features`."
            )
        values = file.array("pre_activation", np.float32, (network.units,))
        image = file.attribute("image")
    return Features(torch.from_numpy(values), None if image is None else str(image))


def _named(attributes: Mapping[str, Any]) -> str:
    return (
        f"layer '{attributes['layer']}' of {attributes['network']} (weights "
        f"{str(attributes['digest'])[:12]})"
    )


@proof_modes()
def extract_features(config: Config, image: Path, out: Path) -> Path:
    """Writes what an image gives the layer of a network, to be a target without the image.

    Args:
        config: Sections ``images`` and ``network``.
        image: The image.
        out: The HDF5 file; nothing is done if it holds the same features already.

    Returns:
        ``out``.

    Raises:
        InputError: If the image, the network or ``out`` cannot be used.
        DiskFullError: If the disk is full.
    """
    out = output_path(out)
    if out.suffix.lower() != SUFFIX:
        raise TargetError(f"--out {out} should be an HDF5 file, such as {out.stem}{SUFFIX}.")
    network = load_network(config.network, config.seed)
    picture = read_square(config, image, network.input_size, network.channels)
    target = Target.of_picture(network, picture)
    logger.info(
        "%s: %s, %.3f by %s", image, target.class_name, target.probability, network.full_name
    )
    made_from = {"image": target.digest, "network": network.digest, "layer": network.layer}
    identity = fingerprint(made_from)
    about = {
        "fingerprint": identity,
        "image_digest": target.digest,
        "class_name": target.class_name,
        "probability": target.probability,
        "settings": config.model_dump(mode="json"),
        "seed": config.seed,
    }
    if out.exists():
        _require_same(out, identity)
        logger.info("%s holds these features already: nothing to do.", out)
    else:
        write_features(out, target.pre_activation, network, image=printable(image), about=about)
    return out


def read_target(config: Config, network: CollisionNetwork, path: Path) -> Target:
    """Reads a target, an image or, by the suffixes ``.h5`` and ``.npz``, features.

    Args:
        config: Section ``images``.
        network: The network under study.
        path: The file.

    Raises:
        ImageError: If the image cannot be read.
        TargetError: If the features cannot be read, or are not of this network and layer.
        NetworkError: If features alone do not decide the class at this layer, or if the network
            gives the target no finite probability.
    """
    if holds_features(path):
        features = read_features(path, network)
        return Target.of_features(network, features.pre_activation, features.image)
    picture = read_square(config, path, network.input_size, network.channels)
    return Target.of_picture(network, picture)


def _require_same(path: Path, expected: str) -> None:
    with open_hdf5(path, encoding=ENCODING, version=VERSION, error=TargetError) as file:
        if file.attribute("fingerprint") != expected:
            raise TargetError(
                f"{path} is there already and holds other features: of another image, network, or "
                "layer. Choose another --out, or remove it."
            )
