"""A frozen classifier: what images go through before it, and what becomes of its answer behind."""

import contextlib
import logging
from collections.abc import Iterator
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError, PatchCollideError
from patchcollide.networks.layers import weights_digest
from patchcollide.networks.outputs import Classifier, Outputs, find_outputs, require_logits
from patchcollide.networks.picking import Pick
from patchcollide.networks.plain_modules import plain_module, run_in_python
from patchcollide.networks.preprocessing import Preprocessing
from patchcollide.networks.probes import grey_image, noise_image
from patchcollide.shapes import Float, Tensor

logger = logging.getLogger(__name__)


class FrozenClassifier:
    """A module that is put in evaluation mode and frozen, with its preprocessing and its outputs.

    Args:
        module: Maps ``(batch, channels, input_size, input_size)`` to logits, or what is made of
            them.
        name: Its name in the settings.
        preprocessing: What images go through.
        full_name: Its name in reports; ``name`` if empty.
        digest: What :func:`weights_digest` gave for the weights; of ``module`` if empty.
        output: Which of the things that the module returns are its logits.

    Attributes:
        outputs: What the module returns, and how it becomes logits.
        channels: 3 for RGB, 1 for grey.

    Raises:
        NetworkError: If the module cannot be run, or has no real floating-point parameters.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        preprocessing: Preprocessing,
        full_name: str,
        digest: str,
        output: Pick,
    ) -> None:
        self.module = plain_module(module, name).eval().requires_grad_(False)
        run_in_python(self.module)
        self.name, self.full_name = name, full_name or name
        self.input_size, self.channels = preprocessing.input_size, preprocessing.channels
        self.outputs = Outputs(pick=output)
        self._preprocessing, self._digest = preprocessing, digest
        # What comes in another precision, such as half, is compared in single.
        self._casts = self._example().dtype != torch.float32

    def _lay_out(self, layout: torch.memory_format) -> None:
        self.module.to(memory_format=layout)
        self._layout: torch.memory_format | None = layout

    def prepared(self, images: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Returns images as ``module`` takes them: resized and normalised, which is affine."""
        images = images.to(self._example())
        if images.shape[-2:] != (self.input_size, self.input_size):
            size = (self.input_size, self.input_size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = self._preprocessing.normalised(images)
        return images.contiguous(memory_format=self._layout) if self._layout else images

    @property
    def classifier(self) -> nn.Module:
        """What maps images that are :meth:`prepared` to logits and can be walked.

        That is ``module`` if it returns logits, else one of its own, with the same parameters.
        """
        if self.outputs.are_logits:
            return self.module
        return Classifier(self.module, self.outputs).eval()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._example().device

    @cached_property
    def digest(self) -> str:
        """What identifies the weights; see :func:`weights_digest`."""
        return self._digest or weights_digest(self.module)

    def _example(self) -> Tensor:
        for parameter in self.module.parameters():
            if parameter.is_floating_point():
                return parameter
        return torch.zeros(())

    def logits_of_prepared(self, images: Float[Tensor, "batch channels size size"]) -> Tensor:
        """Runs ``module``, with whatever hooks it has, and returns its logits.

        Args:
            images: As :meth:`prepared` gives them.
        """
        with self.outputs.passed_by(self.module):
            values = self.module(images)
        values = require_logits(values, images, self.name, self.outputs.pick)
        logits = self.outputs.to_logits(values)
        return logits.float() if self._casts else logits

    def _find_outputs(self) -> Outputs:
        noise = noise_image(self.channels, self.input_size)
        # Logits may lie in [0, 1] by chance, but not of whatever goes in.
        images = torch.cat([noise, grey_image(self.channels, self.input_size), 3 * noise - 1])

        def run() -> Tensor:
            with self._explained(images), torch.no_grad():
                values = self.module(self.prepared(images))
                return require_logits(values, images, self.name, self.outputs.pick)

        outputs = find_outputs(run, self.module, self.name, self.outputs.pick)
        if outputs.is_single or outputs.ending:
            self.full_name += f" (which returns {outputs})"
            logger.info("%s returns %s; its logits are made of that.", self.name, outputs)
        return outputs

    @contextlib.contextmanager
    def _explained(self, images: Tensor) -> Iterator[None]:
        try:
            yield
        except PatchCollideError:
            raise
        except Exception as error:
            raise NetworkError(
                f"{self.name} cannot classify a batch of shape {tuple(images.shape)}: {error}"
            ) from error
