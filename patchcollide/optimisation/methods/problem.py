"""What every method is given, and where it starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Config
from patchcollide.errors import TargetError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.checkpoints import Checkpoint, DescentState
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.shapes import Float, Tensor, UInt8, ndarray

_GREY = 128
# Of pixels in 0..1, in units of a hundredth: most of the noise stays in range.
_NOISE = 20.0


@dataclass(frozen=True)
class Problem:
    """What images are to be found.

    Attributes:
        config: All settings.
        network: The network under study.
        target: What the images are to collide with.
        task: The target's features, the class wanted, and how often to look.
        parameterisation: What is varied, at its start; one image for each vertex.
        checkpoint: Where to keep the state of a descent; None to keep none.
    """

    config: Config
    network: CollisionNetwork
    target: Target
    task: DescentTask
    parameterisation: Parameterisation
    checkpoint: Checkpoint | None = None


Method: TypeAlias = Callable[
    [Problem], tuple[Float[Tensor, "vertices channels height width"], DescentState]
]
"""Returns images in ``[0, 1]``, and the steps, the history and the end of their descent."""


def begin(
    config: Config, source: UInt8[ndarray, "height width channels"], target: Target
) -> tuple[Config, UInt8[ndarray, "height width channels"]]:
    """Returns the settings and the image that free pixels start from, by ``baselines.start``.

    Noise is normal around grey, with a fifth of the value range as its standard deviation, clipped.

    Raises:
        TargetError: If the start is the target's image, and only its features were given.
    """
    start = config.baselines.start
    if start == "auto":
        start = "noise" if config.method in ("metamer", "plenoptic") else "source"
    if config.method == "polytope" or start == "source":
        return config, source
    if start == "target":
        if target.picture is None:
            raise TargetError(
                "baselines.start = 'target' needs the target's image, but only its features were "
                "given. Give --target an image, or start from the source."
            )
        return config, target.picture
    noisy = config.optimiser.model_copy(update={"start_noise": _NOISE})
    return config.model_copy(update={"optimiser": noisy}), np.full_like(source, _GREY)
