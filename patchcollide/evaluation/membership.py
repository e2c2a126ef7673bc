"""What can be asked of any image beside a polytope: whether it collides with the target too."""

from typing import Any

import torch

from patchcollide.errors import ConfigError
from patchcollide.evaluation.feature_distances import which_collide
from patchcollide.evaluation.gaps import GapFigures, measure_gaps
from patchcollide.evaluation.verdicts import bound_asked
from patchcollide.images.pictures import read_square
from patchcollide.images.pillow import Picture
from patchcollide.images.tensors import as_batch, unit_batch
from patchcollide.networks.targets import HasTarget
from patchcollide.shapes import Bool, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes


class Membership(HasTarget):
    """A network and a target, with which images collide or not."""

    @proof_modes()
    def contains(
        self,
        image: Picture | Tensor,
        tolerance: float | None = None,
        *,
        tightness: float | None = None,
        by: str = "features",
    ) -> bool | Bool[ndarray, "images"]:
        """Says whether an image, any at all, collides with the target; or which of a batch do.

        An image collides that is of the target's class and has nearly its features.

        Args:
            image: A file, a picture of Pillow's or an uint8 array, made square as the target was;
                or what :func:`patchcollide.images.tensors.unit_batch` takes.
            tolerance: Asks for each feature instead of all at once: it must be at most this far
                from the target's, behind the activation and beyond the network's own tolerance. 0
                asks for equal features, which no descent reaches.
            tightness: How far features may be from the target's, behind the activation, as a share
                of theirs; None for what the verdict goes by.
            by: ``"features"``, or ``"class"`` for the target's class alone.

        Raises:
            ImageError: If the image cannot be used.
            ConfigError: If ``by`` is anything else.
        """
        if by not in ("features", "class"):
            raise ConfigError(f"by='{by}': an image collides by its 'features' or its 'class'.")
        if by == "features" and tolerance is None and tightness is None:
            tightness = bound_asked(self.config)
        values = unit_batch(image, self.network.channels)
        if values is None:
            values = as_batch(self._square(image)[None])
        bounds = {"tightness": tightness, "tolerance": tolerance} if by == "features" else {}
        found = which_collide(self.network, values, self.target, **bounds)
        is_batch = getattr(image, "ndim", 0) == values.ndim
        return found.numpy() if is_batch else bool(found[0])

    @proof_modes()
    def gaps(self, image: Picture) -> GapFigures[float | None]:
        """Measures how nearly an image collides; see :class:`patchcollide.evaluation.gaps.Gaps`."""
        with torch.no_grad():
            output = self.network(as_batch(self._square(image)[None]))
        return measure_gaps(output.pre_activation, self.target.features(self.network)).rows()[0]

    def _square(self, image: Any) -> UInt8[ndarray, "side side channels"]:
        return read_square(self.config, image, self.network.input_size, self.network.channels)
