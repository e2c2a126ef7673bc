"""Source and target of a collision: what is refused, written and said of them.

What a collision is made of stands in the files of its run, from which it is read again.
"""

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from patchcollide.config import Config
from patchcollide.config_files import overrides_of
from patchcollide.errors import ConfigError, ImageError, TargetError
from patchcollide.evaluation.feature_distances import target_features
from patchcollide.evaluation.known_changes import noise_floor
from patchcollide.images.pictures import read_pixels, read_square, write_png
from patchcollide.images.pillow import Picture
from patchcollide.io.provenance import array_digest, file_digest, printable
from patchcollide.networks.feature_files import holds_features, write_features
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, require_finite
from patchcollide.retrieval.engines import with_engine
from patchcollide.runs.folder import Run, RunIdentity, RunInputs
from patchcollide.runs.pictures import (
    OF_STORE,
    WHOLE,
    Crops,
    choose_picture,
    choose_target,
    target_of,
    warn_of_cut,
    warn_of_picture,
)
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store.reader import PatchStore

logger = logging.getLogger(__name__)

IN_MEMORY = Path("an image in memory")
"""Stands where the path of a file would."""


@dataclass(frozen=True)
class CollisionInputs:
    """What a collision is made of.

    Attributes:
        source_path: The source's file, or :data:`IN_MEMORY`.
        target_path: The target's file, or the same.
        source: The source as the network sees it.
        target: What vertices are to collide with.
        origin: Where patches come from: a store, or a file of neighbours found before; None if
            pixels vary freely.
        images: A folder of the data set's images, to compare with; None for the store's.
        exact: Whether vertices are found by linear programming.
        own_network: Whether the network is the caller's, which no settings can name.
        pictures: What source and target are read from, where that is not their files.
        crops: The parts of them that are meant.
    """

    source_path: Path
    target_path: Path
    source: UInt8[ndarray, "height width channels"]
    target: Target
    origin: PatchStore | Path | None
    images: Path | None = None
    exact: bool = False
    own_network: bool = False
    pictures: tuple[Picture, Picture] | None = None
    crops: Crops = WHOLE

    @classmethod
    def read(
        cls,
        config: Config,
        network: CollisionNetwork,
        source: Path,
        target: Path,
        origin: PatchStore | Path | None,
        *,
        images: Path | None = None,
        exact: bool = False,
        crops: Crops = WHOLE,
    ) -> "CollisionInputs":
        """Reads source and target as the network sees them; InputError if it cannot."""
        store = origin if isinstance(origin, PatchStore) else None
        seen = choose_picture(config, source, store, crops.source)
        picture = read_square(config, seen.picture, network.input_size, network.channels)
        aim = choose_target(config, target, store, crops.target)
        features = target_of(config, network, aim)
        pictures = seen.picture, aim.picture
        return cls(
            seen.path,
            aim.path,
            picture,
            features,
            origin,
            images,
            exact,
            pictures=pictures,
            crops=crops,
        )

    @property
    def source_picture(self) -> Picture:
        """What the source is read from: its file, or pixels."""
        return self.pictures[0] if self.pictures else self.source_path

    @property
    def target_picture(self) -> Picture:
        """What the target is read from: its file, or pixels."""
        return self.pictures[1] if self.pictures else self.target_path

    @property
    def store(self) -> PatchStore | None:
        """The store, if patches come from one."""
        return self.origin if isinstance(self.origin, PatchStore) else None

    @property
    def _kind(self) -> str:
        kind = "pixels" if self.origin is None else "patches"
        return f"{kind}, exact" if self.exact else kind

    def described(self, config: Config, network: CollisionNetwork, out: Path) -> RunInputs:
        """Returns names and paths, and the command line that makes the run again, if one can."""
        parts = {"source_crop": self.crops.source, "target_crop": self.crops.target}
        given = cast(RunInputs, {key: str(part) for key, part in parts.items() if part})
        if self.store and config.retrieval.engine == "auto":
            given["engine"] = with_engine(config, self.store).retrieval.engine
        return {
            "source": printable(self.source_path),
            "target": printable(self.target_path),
            "target_given_as": self.target.given_as,
            "target_image": self.target.image,
            "network": network.full_name,
            "network_given_as": "object" if self.own_network else "name",
            "layer": network.layer,
            "store": printable(self.store.path) if self.store else None,
            "neighbours": printable(self.origin) if isinstance(self.origin, Path) else None,
            "images": printable(self.images) if self.images else None,
            "parameterisation": self._kind,
            "command": self._command(config, out),
            **given,
        }

    def identity(self, network: CollisionNetwork) -> RunIdentity:
        """Returns digests of all that decides the result beside the settings."""
        found = self.origin if isinstance(self.origin, Path) else None
        return {
            "source": array_digest(self.source),
            "target": self.target.digest,
            "network": network.digest,
            "layer": network.layer,
            "store": self.store.fingerprint if self.store else None,
            "neighbours": file_digest(found) if found else None,
            "parameterisation": self._kind,
        }

    def _command(self, config: Config, out: Path) -> str:
        if self.own_network or IN_MEMORY in (self.source_path, self.target_path):
            return "patchcollide.find_polytope(...) in Python, on what was in memory"
        words = ["patchcollide", "exact" if self.exact else "collide"]
        words += ["--source", printable(self.source_path), "--target", printable(self.target_path)]
        if isinstance(self.origin, PatchStore):
            words += ["--store", printable(self.origin.path)]
        else:
            free = [] if self.exact else ["--pixels"]
            words += ["--neighbours", printable(self.origin)] if self.origin else free
        words += ["--crop", str(self.crops.source)] if self.crops.source else []
        words += ["--target-crop", str(self.crops.target)] if self.crops.target else []
        words += ["--images", printable(self.images)] if self.images else []
        words += ["--out", printable(out)]
        for override in overrides_of(config):
            words += ["--set", override]
        return shlex.join(words)


def write_pair(
    run: Run,
    network: CollisionNetwork,
    source: UInt8[ndarray, "height width channels"],
    target: Target,
) -> None:
    """Writes ``source.png``, and ``target.png`` or, of given features, ``target.h5``."""
    write_png(run / "source.png", source)
    path = run / run.target_file
    if target.picture is not None:
        write_png(path, target.picture)
    else:
        about = {"fingerprint": run.fingerprint, "origin": run.inputs["target"]}
        write_features(path, target.pre_activation, network, image=target.image, about=about)


def require_two_pictures(config: Config, inputs: CollisionInputs) -> None:
    """Raises :class:`ImageError` if source and target are one picture, unless that is wanted."""
    if config.allow_same_image or inputs.target.picture is None:
        return
    if np.array_equal(inputs.source, inputs.target.picture):
        raise ImageError(
            f"Source {inputs.source_path} and target {inputs.target_path} are the same picture, so "
            "they collide already. Choose two pictures, or repeat the paper's 'image with itself' "
            "with --set allow_same_image=true."
        )


def require_features(network: CollisionNetwork, target: Target) -> None:
    """Refuses a target without features; warns of one that leaves no unit blind.

    Raises:
        TargetError: If its features are all as low as the activation goes.
    """
    features = target.features(network)
    above = (target_features(features) - network.blind.floor).abs().max()
    if above <= network.blind.tolerance:
        raise TargetError(
            f"No unit of layer '{network.layer}' responds to the target, so its features are those "
            "of any image that the layer says nothing about: a collision with it would mean "
            "nothing. Choose another target or another layer."
        )
    if features.active.all() and not network.blind.tolerance:
        logger.warning(
            "all %d units of layer '%s' are active at the target, so each must be met: only images "
            "that the layer's own input does not tell apart can collide with it.",
            network.units,
            network.layer,
        )


def require_reachable(config: Config, network: CollisionNetwork, target: Target) -> None:
    """Refuses to ask for features nearer than rounding leaves them; warns where it is close.

    Rounding a sample to 8 bits moves its features about as far as such noise moves the target's,
    unless the vertices hardly differ. Nothing is known of targets that are no pictures.

    Raises:
        ConfigError: If less than half of that is asked for.
    """
    gamma = config.objective.tightness if config.method == "polytope" else 0.0
    floor = noise_floor(network, target, config.seed) if gamma else None
    if floor is None or gamma >= floor:
        return
    reason = (
        f"objective.tightness = {gamma:g} asks for features nearer to the target's than rounding "
        f"to 8 bits leaves them: half a grey level of noise on the target moves its own by "
        f"{floor:.2g} at layer '{network.layer}' of {network.full_name}"
    )
    # Rounded to two digits it is still above.
    advice = f"Ask for {1.05 * floor:.2g} or more, or choose another layer."
    if gamma < floor / 2:
        raise ConfigError(f"{reason}. {advice}")
    logger.warning("%s, so that samples may never be that near. %s", reason, advice)


def announce(config: Config, network: CollisionNetwork, inputs: CollisionInputs) -> None:
    """Says what the network makes of source and target; warns of a target it takes for another.

    Raises:
        ConfigError: If features are to be nearer to the target's than rounding leaves them.
        NetworkError: If it gives one of them no finite probability.
        TargetError: If the layer does not respond to the target.
    """
    require_features(network, inputs.target)
    if not inputs.exact:
        require_reachable(config, network, inputs.target)
    read = {
        f"source {inputs.source_path}": inputs.source_picture,
        f"target {inputs.target_path}": inputs.target_picture,
    }
    for what, picture in read.items():
        if isinstance(picture, np.ndarray):
            warn_of_picture(network, what, picture)
        elif isinstance(picture, Path) and picture != IN_MEMORY and not holds_features(picture):
            pixels = read_pixels(picture, max_pixels=config.images.max_pixels)
            warn_of_picture(network, what, pixels)
            warn_of_cut(config, what, pixels)
    _, class_name, probability = network.top(inputs.source)
    require_finite(network, "source", probability)
    logger.info("source: %s, %.3f by %s", class_name, probability, network.full_name)
    target = inputs.target
    logger.info("target: %s, %.3f by %s", target.class_name, target.probability, network.full_name)
    if target.probability < config.network.min_confidence:
        logger.warning(
            "the target is not classified confidently: %s with probability %.3f, below "
            "network.min_confidence = %g. A collision with it says little.",
            target.class_name,
            target.probability,
            config.network.min_confidence,
        )
    label = inputs.target_path.parent.name.removeprefix(OF_STORE)
    if label in network.class_names and label != target.class_name:
        logger.warning(
            "the target lies in the folder of class %s, but %s takes it for %s: what collides with "
            "it collides with a mistake.",
            label,
            network.full_name,
            target.class_name,
        )
