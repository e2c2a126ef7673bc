"""A frozen classifier that shows the pre-activation of one of its layers."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.images.tensors import as_batch
from patchcollide.networks.activations import BlindRegions, blind_shares
from patchcollide.networks.calls import Call, list_calls
from patchcollide.networks.captures import captured_input, flattened
from patchcollide.networks.classifier import FrozenClassifier
from patchcollide.networks.layers import LayerSpec, find_call, listed, usable_calls
from patchcollide.networks.outputs import (
    NetworkOutput,
    Outputs,
    named_classes,
)
from patchcollide.networks.picking import Pick
from patchcollide.networks.preprocessing import Preprocessing
from patchcollide.networks.probes import (
    differ,
    grey_image,
    noise_image,
    replaced_input,
    require_repeatable,
)
from patchcollide.shapes import Float, Tensor, UInt8, ndarray

logger = logging.getLogger(__name__)

_PREPROCESSING = {field.name for field in fields_of(Preprocessing)}


class CollisionNetwork(FrozenClassifier):
    """A frozen classifier with the pre-activation of one layer.

    Images are RGB, or grey, in ``[0, 1]`` everywhere outside; resizing and normalisation happen
    inside. The pre-activation is a copy of what goes *into* the layer's activation module, because
    many networks apply it in place. Three forward passes are made here, to learn the layer's size,
    that an image alone decides the answer, and what the answer is.

    Args:
        module: Maps ``(batch, channels, input_size, input_size)`` to ``(batch, classes)``: logits,
            or what a softmax made of them, or one logit or sigmoid for two classes. It is put in
            evaluation mode and frozen, and its convolutions are laid out channels last.
        name: Its name in the settings.
        layer: The layer, or only its name.
        preprocessing: What images go through.
        class_names: One for each class; empty if there are none. Of one output, whose classes are
            two, also the second's alone.
        full_name: Its name in reports; ``name`` if empty. What it returns is added unless that are
            logits.
        digest: What :func:`weights_digest` gave for the weights; of ``module`` if empty.
        low_precision: Whether :meth:`pre_activation` computes in bfloat16.
        output: Which of the things that the module returns are its logits: a name, a number, or a
            function. None for what :func:`patchcollide.networks.picking.picked` takes.
        folded: Whether a search uses its quick copy; see :mod:`patchcollide.networks.folding`.
        fields: Those of :class:`Preprocessing` and of :class:`LayerSpec` on their own, which come
            before an object's: ``input_size``, ``mean``, ``scale``, ``blind``, ``tolerance`` and
            ``aliases``.

    Attributes:
        call: The run of an activation whose input is shown.
        blind: Where the layer's activation is constant; its ``intervals`` say which other
            pre-activations it takes for the same.
        units: The number of units of the layer.
        num_classes: The number of logits: two where the module returns one.
        outputs: What the module returns, and how it becomes logits.
        channels: 3 for RGB, 1 for grey.

    Raises:
        NetworkError: If the layer does not exist, has no blind region or does not run exactly once
            in a forward pass, or if the module does not classify images of this size, answers
            at random, or answers otherwise when other images are in the batch.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        layer: LayerSpec | str,
        preprocessing: Preprocessing | None = None,
        class_names: Sequence[str] = (),
        full_name: str = "",
        digest: str = "",
        low_precision: bool = False,
        folded: bool = False,
        output: Pick = None,
        **fields: Any,
    ) -> None:
        own = {key: fields.pop(key) for key in _PREPROCESSING & fields.keys()}
        seen = replace(preprocessing, **own) if preprocessing else Preprocessing(**own)
        self._spec = replace(LayerSpec(layer) if isinstance(layer, str) else layer, **fields)
        super().__init__(
            module,
            name=name,
            preprocessing=seen,
            full_name=full_name,
            digest=digest,
            output=output,
        )
        self.low_precision, self.folded = low_precision, folded
        convolves = any(isinstance(part, nn.Conv2d) for part in self.module.modules())
        self._lay_out(torch.channels_last if convolves else torch.contiguous_format)
        try:
            self._examine()
        except NetworkError as error:
            if not convolves or not isinstance(error.__cause__, RuntimeError):
                raise
            # Such as `x.view(len(x), -1)`, which needs channels first.
            self._lay_out(torch.contiguous_format)
            self._examine()
        self.class_names = named_classes(class_names, self.num_classes, self.outputs, self.name)

    def _examine(self) -> None:
        self.outputs = Outputs(pick=self.outputs.pick)
        self._found: dict[str, tuple[Call, BlindRegions]] = {}
        self.call, self.blind = self._resolve(self._spec)
        self.units, num_outputs = self._measure()
        self.outputs = self._find_outputs()
        self.num_classes = 2 if self.outputs.is_single else num_outputs

    def __call__(self, images: Float[Tensor, "batch channels height width"]) -> NetworkOutput:
        """Runs the network; gradients flow to the images, whether units are blind or not.

        Args:
            images: In ``[0, 1]``, of any size; resized bilinearly, with antialiasing.

        Returns:
            The pre-activation, flattened in channel, height, width order, and the logits.

        Raises:
            NetworkError: If the layer does not run exactly once.
        """
        captured: list[Tensor] = []
        with captured_input(self.module, self.call, captured.append):
            logits = self.logits_of_prepared(self.prepared(images))
        return NetworkOutput(self._flattened(captured, len(images)), logits)

    def pre_activation(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch units"]:
        """Returns the pre-activation alone, for a descent: the pass ends at the layer.

        In bfloat16 where ``low_precision`` says so, which is several times as fast on machines with
        matrix units for it; a call of the network is always in the precision of its weights.
        Differentiable; images and errors as in a call.
        """
        captured: list[Tensor] = []
        module = self._low_precision_module if self.low_precision else self.module
        prepared = self.prepared(images)
        with captured_input(module, self.call, captured.append, and_stop=True):
            module(prepared.bfloat16() if self.low_precision else prepared)
        z = self._flattened(captured, len(images))
        return z.float() if self.low_precision else z

    @cached_property
    def _low_precision_module(self) -> nn.Module:
        return copy.deepcopy(self.module).to(torch.bfloat16)

    def probabilities(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Returns the softmax of the logits, at least in float32; images as in a call."""
        return self(images).probabilities

    def classify_features(
        self, pre_activation: Float[Tensor, "batch units"]
    ) -> Float[Tensor, "batch classes"]:
        """Runs what comes behind the layer on features instead of an image's own.

        Two images run along, and what each gives the layer is replaced; if their logits differ, the
        layer does not see everything that decides the class.

        Args:
            pre_activation: In the order of a call's, differentiable.

        Returns:
            The logits.

        Raises:
            NetworkError: If there are more or fewer features than units, or if the network has a
                way round the layer, such as a skip connection.
        """
        count, found = pre_activation.shape
        if found != self.units:
            raise NetworkError(
                f"Layer '{self.layer}' of {self.name} has {self.units} units, but features have "
                f"{found} values. Give one for each unit."
            )
        shape = (self.channels, self.input_size)
        pair = torch.cat([grey_image(*shape), noise_image(*shape)])
        images = pair.repeat_interleave(count, dim=0)
        with replaced_input(self.module, self.call, pre_activation.repeat(2, 1)):
            logits = self.logits_of_prepared(self.prepared(images))
        if differ(logits[:count], logits[count:]):
            raise NetworkError(
                f"Features at layer '{self.layer}' of {self.name} do not decide the class on their "
                "own: equal features get other logits with another image, so the network has a way "
                "round the layer, such as a skip connection. Give an image as the target, or "
                "choose a layer that everything passes."
            )
        return logits[:count]

    def top(
        self,
        image: UInt8[ndarray, "height width channels"] | UInt8[Tensor, "height width channels"],
    ) -> tuple[int, str, float]:
        """Classifies one image in 0..255.

        Returns:
            The index, the name (the index as text if there are no names) and the probability of
            the most probable class.
        """
        pixels = image if isinstance(image, np.ndarray) else image.cpu().numpy()
        with torch.no_grad():
            probability, index = self.probabilities(as_batch(pixels[None]))[0].max(dim=0)
        return int(index), self.class_name(int(index)), float(probability)

    def class_name(self, index: int) -> str:
        """Returns the name of a class; its index as text if there are no names."""
        return self.class_names[index] if self.class_names else str(index)

    @property
    def layer(self) -> str:
        """The name of the run of an activation whose input is shown."""
        return self.call.name

    @cached_property
    def calls(self) -> list[Call]:
        """All runs of activations that are known and depend on the image, in their order."""
        images = noise_image(self.channels, self.input_size)

        def run() -> None:
            with self._explained(images), torch.enable_grad():
                self.module(self.prepared(images.requires_grad_()))

        return list_calls(self.module, run)

    @property
    def usable_layers(self) -> list[str]:
        """The names of all layers that can be collided at, in the order of a pass."""
        return [call.name for call in usable_calls(self.calls, self._spec.tolerance)]

    def find_call(self, layer: str) -> tuple[Call, BlindRegions]:
        """Returns the run of an activation that a layer's name means, and where it is constant.

        Raises:
            NetworkError: If there is no such layer, or it has no blind region.
        """
        if layer not in self._found:
            # A blind region that was given is of the layer it was given for.
            blind = self.blind if layer == self.layer else None
            spec = replace(self._spec, name=layer, blind=blind)
            self._found[layer] = self._resolve(spec)
        return self._found[layer]

    def _resolve(self, spec: LayerSpec) -> tuple[Call, BlindRegions]:
        def blind_at(call: Call) -> dict[float, float]:
            captured: list[Tensor] = []
            images = noise_image(self.channels, self.input_size)
            with torch.no_grad(), captured_input(self.module, call, captured.append, and_stop=True):
                self.module(self.prepared(images))
            return blind_shares(call.activation, captured[0]) if captured else {}

        return find_call(self.module, spec, self.name, lambda: self.calls, blind_at)

    def find_layer(self, layer: str) -> tuple[str, BlindRegions]:
        """Returns the own name of any layer, and where it is constant; as :meth:`find_call`."""
        call, blind = self.find_call(layer)
        return call.name, blind

    def at_layer(self, layer: str) -> "CollisionNetwork":
        """Returns the same network, sharing its weights, that shows another layer.

        Raises:
            NetworkError: As the constructor does.
        """
        call, blind = self.find_call(layer)
        other = self.showing(call)
        other.blind, other._found = blind, {}
        other.units, _ = other._measure()
        return other

    def showing(self, call: Call) -> "CollisionNetwork":
        """Returns the same network that shows another run; what is known of the layer stays."""
        other = copy.copy(self)
        other.call = call
        return other

    def in_float64(self) -> "CollisionNetwork":
        """Returns a copy that computes in float64."""
        double = copy.deepcopy(self)
        # Convolutions in float64 are three times slower channels last.
        double.module.double().to(memory_format=torch.contiguous_format)
        if self._layout == torch.channels_last:
            double._layout = None
        double.low_precision = double.folded = False
        double._casts = False
        return double

    def to(self, device: torch.device | str) -> "CollisionNetwork":
        """Moves the network to a device and returns it."""
        self.module.to(device)
        return self

    def _flattened(self, captured: list[Tensor], batch_size: int) -> Tensor:
        layer = f"Layer '{self.layer}' of {self.name}"
        # What may be chosen instead is looked for in errors alone.
        z = flattened(captured, batch_size, layer, lambda: self.usable_layers)
        return z.float() if self._casts else z

    def _measure(self) -> tuple[int, int]:
        output = self._tried(noise_image(self.channels, self.input_size))
        size = self.channels, self.input_size
        z, _ = require_repeatable(self._tried, output, *size, self.name)
        if torch.equal(z[0], z[2]) and self.call not in self.calls:
            raise NetworkError(
                f"Layer '{self.layer}' of {self.name} does not depend on the image, so every image "
                f"collides there. Choose another layer; usable are {listed(self.usable_layers)}."
            )
        return output.pre_activation.shape[1], output.logits.shape[1]

    def _tried(self, images: Tensor) -> NetworkOutput:
        with self._explained(images), torch.no_grad():
            return self(images)
