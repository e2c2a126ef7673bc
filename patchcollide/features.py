"""Files of features: a layer's pre-activation of an image, without the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcollide.errors import TargetError
from patchcollide.hdf5 import open_hdf5, write_hdf5
from patchcollide.networks import CollisionNetwork
from patchcollide.npz import open_npz
from patchcollide.provenance import versions
from patchcollide.shapes import Float32, Tensor

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
        DiskFullError: If there is no room left.
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
