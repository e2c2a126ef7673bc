"""A frozen classifier that shows the pre-activation of one of its layers."""

import copy
import difflib
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.activations import BlindRegions, blind_regions
from patchcollide.errors import NetworkError
from patchcollide.shapes import Float, Tensor, UInt8, ndarray

_MAX_LISTED = 60


class NetworkOutput(NamedTuple):
    """What a network makes of a batch of images."""

    pre_activation: Float[Tensor, "batch units"]
    logits: Float[Tensor, "batch classes"]

    @property
    def probabilities(self) -> Float[Tensor, "batch classes"]:
        """The softmax of the logits, at least in float32."""
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        return self.logits.softmax(dim=1, dtype=dtype)


class CollisionNetwork:
    """A frozen classifier with the pre-activation of one layer.

    Images are RGB in ``[0, 1]`` everywhere outside; resizing and normalisation happen inside. The
    pre-activation is a copy of what goes *into* the layer's activation module, because many
    networks apply it in place. One forward pass is made here to learn the layer's size.

    Args:
        module: Maps ``(batch, 3, input_size, input_size)`` to ``(batch, classes)``. It is put in
            evaluation mode and frozen, and its convolutions are laid out channels last.
        name: Its name in the settings.
        layer: The name of an activation module in ``module``, or one of ``aliases``.
        input_size: Side of its input, in pixels.
        mean: Subtracted from each channel, in the units of ``[0, 1]``.
        scale: What each channel is then divided by.
        class_names: One for each logit; empty if there are none.
        blind: Where the layer's activation is constant; None for what :func:`blind_regions` says.
        full_name: Its name in reports; ``name`` if empty.
        aliases: Other names of layers.

    Attributes:
        layer: The activation module's own name.
        blind: Where the layer's activation is constant.
        units: The number of units of the layer.
        num_classes: The number of logits.

    Raises:
        NetworkError: If the layer does not exist, has no blind region or does not run exactly once
            in a forward pass, or if the module does not classify images of this size.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        layer: str,
        input_size: int,
        mean: Sequence[float],
        scale: Sequence[float],
        class_names: Sequence[str] = (),
        blind: BlindRegions | None = None,
        full_name: str = "",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.name = name
        self.full_name = full_name or name
        self.input_size = input_size
        self.class_names = tuple(class_names)
        self.layer, self.blind = _find_layer(module, layer, blind, aliases or {}, name)
        self._activation = module.get_submodule(self.layer)
        self._mean = torch.tensor(mean, dtype=torch.float64).reshape(1, 3, 1, 1)
        self._scale = torch.tensor(scale, dtype=torch.float64).reshape(1, 3, 1, 1)
        self._channels_last = any(isinstance(part, nn.Conv2d) for part in module.modules())
        if self._channels_last:
            self.module.to(memory_format=torch.channels_last)
        self.units, self.num_classes = self._measure()

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> NetworkOutput:
        """Runs the network; gradients flow to the images, whether units are blind or not.

        Args:
            images: RGB in ``[0, 1]``, of any size; resized bilinearly, with antialiasing.

        Returns:
            The pre-activation, flattened in channel, height, width order, and the logits.

        Raises:
            NetworkError: If the layer does not run exactly once.
        """
        captured: list[Tensor] = []

        def capture(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            (value,) = (*args, *kwargs.values())
            # The activation may overwrite its input: keep a copy.
            captured.append(value.clone(memory_format=torch.contiguous_format))

        # A hook for this call only: nothing outlives it, and others may use the module too.
        with self._activation.register_forward_pre_hook(capture, with_kwargs=True):
            logits = self.module(self.prepared(images))
        return NetworkOutput(self._flattened(captured, len(images)), self._checked(logits, images))

    def probabilities(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Returns the softmax of the logits, at least in float32; images as in a call."""
        return self(images).probabilities

    def top(
        self, image: UInt8[ndarray, "height width 3"] | UInt8[Tensor, "height width 3"]
    ) -> tuple[int, str, float]:
        """Classifies one RGB image in 0..255.

        Returns:
            The index, the name (the index as text if there are no names) and the probability of
            the most probable class.
        """
        pixels = torch.from_numpy(np.array(image)) if isinstance(image, np.ndarray) else image
        batch = pixels.permute(2, 0, 1)[None].to(self.device, torch.float32) / 255
        with torch.no_grad():
            probability, index = self.probabilities(batch)[0].max(dim=0)
        name = self.class_names[int(index)] if self.class_names else str(int(index))
        return int(index), name, float(probability)

    def prepared(self, images: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Returns images as ``module`` takes them: resized and normalised, which is affine."""
        images = images.to(self._example())
        if images.shape[-2:] != (self.input_size, self.input_size):
            size = (self.input_size, self.input_size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = (images - self._mean.to(images)) / self._scale.to(images)
        if self._channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def in_float64(self) -> "CollisionNetwork":
        """Returns a copy that computes in float64."""
        double = copy.deepcopy(self)
        # Convolutions in float64 are three times slower channels last.
        double.module.double().to(memory_format=torch.contiguous_format)
        double._channels_last = False
        return double

    def to(self, device: torch.device | str) -> "CollisionNetwork":
        """Moves the network to a device and returns it."""
        self.module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._example().device

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the names, types, shapes and bytes of all parameters and buffers."""
        digest = hashlib.sha256()
        for name, tensor in [*self.module.named_parameters(), *self.module.named_buffers()]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(values.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _example(self) -> Tensor:
        return next(self.module.parameters(), self._mean.float())

    def _flattened(self, captured: list[Tensor], batch_size: int) -> Tensor:
        if len(captured) != 1:
            raise NetworkError(
                f"Layer '{self.layer}' of {self.name} should run once in a forward pass, but ran "
                f"{len(captured)} times"
                + (", so one module serves several places" if captured else "")
                + ". Give each place an activation module of its own, or choose another layer; "
                f"usable are {_listed(usable_layers(self.module))}."
            )
        if captured[0].shape[:1] != (batch_size,):
            raise NetworkError(
                f"Layer '{self.layer}' of {self.name} should see a batch of {batch_size} first, "
                f"but sees {tuple(captured[0].shape)}. Choose another layer."
            )
        return captured[0].flatten(1) if captured[0].ndim > 1 else captured[0][:, None]

    def _checked(self, logits: Any, images: Tensor) -> Tensor:
        if not isinstance(logits, Tensor) or logits.shape[:-1] != images.shape[:1]:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise NetworkError(
                f"{self.name} should return logits of shape ({len(images)}, classes), but "
                f"returned {found}. Wrap it in a module that returns the logits alone."
            )
        return logits

    def _measure(self) -> tuple[int, int]:
        grey = torch.full((1, 3, self.input_size, self.input_size), 0.5)
        try:
            with torch.no_grad():
                output = self(grey)
        except (RuntimeError, TypeError, ValueError) as error:
            raise NetworkError(
                f"{self.name} cannot classify a batch of shape {tuple(grey.shape)}: {error}"
            ) from error
        num_classes = output.logits.shape[1]
        if self.class_names and len(self.class_names) != num_classes:
            raise NetworkError(
                f"{self.name} has {num_classes} classes, but {len(self.class_names)} class names "
                "were given. Give one name for each class, or none."
            )
        return output.pre_activation.shape[1], num_classes


def usable_layers(module: nn.Module) -> list[str]:
    """Returns the names of the modules that have a blind region, in the module's order."""
    return [name for name, part in module.named_modules() if name and blind_regions(part)]


def _find_layer(
    module: nn.Module,
    layer: str,
    blind: BlindRegions | None,
    aliases: Mapping[str, str],
    network: str,
) -> tuple[str, BlindRegions]:
    """Resolves a layer's name; ``blind`` overrides what is known of its activation."""
    name = aliases.get(layer, layer)
    usable = usable_layers(module)
    part = dict(module.named_modules(remove_duplicate=False)).get(name) if name else None
    if part is None:
        close = difflib.get_close_matches(layer, [*aliases, *usable], n=1)
        raise NetworkError(
            f"{network} has no layer '{layer}'{f'; did you mean {close[0]}?' if close else '.'} "
            f"Usable are {_listed([*aliases, *usable])}."
        )
    blind = blind or blind_regions(part)
    if blind is None:
        raise NetworkError(
            f"Layer '{name}' of {network} is a {type(part).__name__}, which has no region where it "
            "is exactly constant, so nothing can collide there. Usable are "
            f"{_listed([*aliases, *usable])}."
        )
    return name, blind


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return (", ".join(names[:_MAX_LISTED]) or "none") + more
