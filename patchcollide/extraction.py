"""Targets from files, and the features stage: an image's features in a file of their own."""

import logging
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import TargetError
from patchcollide.features import (
    ENCODING,
    SUFFIX,
    VERSION,
    holds_features,
    read_features,
    write_features,
)
from patchcollide.files import output_path
from patchcollide.hdf5 import open_hdf5
from patchcollide.networks import CollisionNetwork, load_network
from patchcollide.provenance import fingerprint, printable
from patchcollide.retrieval import read_square
from patchcollide.targets import Target
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)


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
        DiskFullError: If there is no room left.
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
