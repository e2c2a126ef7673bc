"""What the numbers that a classifier returns are: logits, or what was made of them already."""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from patchcollide.errors import NetworkError
from patchcollide.networks.hooks import hooked
from patchcollide.networks.picking import Pick, picked
from patchcollide.shapes import Float, Tensor

logger = logging.getLogger(__name__)

_SUM_TOLERANCE = 1e-3
_PARTS: tuple[type[nn.Module], ...] = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)
_OPERATORS = {"_softmax": "softmax", "_log_softmax": "log_softmax", "sigmoid": "sigmoid"}


class NetworkOutput(NamedTuple):
    """What a network makes of a batch of images."""

    pre_activation: Float[Tensor, "batch units"]
    logits: Float[Tensor, "batch classes"]

    @property
    def probabilities(self) -> Float[Tensor, "batch classes"]:
        """The softmax of the logits, at least in float32."""
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        return self.logits.softmax(dim=1, dtype=dtype)


@dataclass(frozen=True)
class Outputs:
    """How a module's outputs become logits, whose softmax are the probabilities.

    Attributes:
        ending: ``"softmax"`` or ``"sigmoid"`` where the module returns probabilities, else empty.
        part: The module in it that makes them, which is passed by: its input are the logits. Empty
            where there is none, so that the logits are the logarithms of the probabilities.
        is_single: Whether there is one output, which says how much more likely the second of two
            classes is than the first.
        are_among: Whether the module returns other things beside them.
        pick: Which are meant, if that was said; see :func:`patchcollide.networks.picking.picked`.
    """

    ending: str = ""
    part: str = ""
    is_single: bool = False
    are_among: bool = False
    pick: Pick = None

    @property
    def are_logits(self) -> bool:
        """Whether the module's outputs are taken as they are."""
        return self == Outputs(pick=self.pick)

    def __str__(self) -> str:
        made = {"": "logits", "softmax": "probabilities", "sigmoid": "a sigmoid"}[self.ending]
        single = "one logit of two classes" if not self.ending else "a sigmoid of two classes"
        return single if self.is_single else made

    def to_logits(self, values: Float[Tensor, "batch *outputs"]) -> Float[Tensor, "batch classes"]:
        """Returns the logits, differentiable; one for each class."""
        if values.ndim == 1:
            values = values[:, None]
        if self.ending and not self.part:
            values = _log(values) - _log(1 - values) if self.is_single else _log(values)
        if self.is_single:
            # The softmax of these two is the sigmoid of the second.
            return torch.cat([torch.zeros_like(values), values], dim=1)
        return values

    @contextlib.contextmanager
    def passed_by(self, module: nn.Module) -> Iterator[None]:
        """Has the part that makes probabilities hand its input through, as long as this lasts."""
        if not self.part:
            yield
            return
        with hooked(module.get_submodule(self.part), leaving=lambda value, _: value):
            yield


class Classifier(nn.Module):
    """A module with what makes its outputs logits in place of its own ending.

    Args:
        module: Maps images to outputs. It is left as it is; its parameters are shared.
        outputs: What these are.
    """

    def __init__(self, module: nn.Module, outputs: Outputs) -> None:
        super().__init__()
        tensors = [*module.parameters(), *module.buffers()]
        self.module = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
        self.outputs = outputs
        if outputs.part:
            parent, _, name = outputs.part.rpartition(".")
            setattr(self.module.get_submodule(parent), name, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of images that are prepared for the module."""
        values = picked(self.module(images), len(images), "The network", self.outputs.pick)
        return self.outputs.to_logits(values)


def find_outputs(
    run: Callable[[], Float[Tensor, "batch outputs"]],
    module: nn.Module,
    name: str,
    pick: Pick = None,
) -> Outputs:
    """Finds out what a module's outputs are, from a pass of noise, grey, and values out of range.

    They are probabilities where the last thing that is done is a softmax or a sigmoid, be it a
    module or a function, or where they are never negative and always sum to 1.

    Args:
        run: Runs the module once, without gradients.
        module: The module.
        name: Its name, for errors.
        pick: Which of the things it returns are meant.

    Raises:
        NetworkError: If it returns a softmax of one output, or several sigmoids.
    """
    returned: list[Any] = []
    all_of_it = hooked(module, leaving=lambda _, values: returned.append(values))
    with all_of_it, _Watch(module) as watch:
        values = run()
    found = _ending(watch, values, name)
    return replace(found, are_among=not isinstance(returned[0], Tensor), pick=pick)


def _ending(watch: "_Watch", values: Float[Tensor, "batch outputs"], name: str) -> Outputs:
    if bool((values == values[:1]).all()):
        logger.warning(
            "%s gives noise, a grey image and values far out of range the same answer: if it does "
            "so for every image, a collision with its class says nothing.",
            name,
        )
    single = values.shape[1] == 1
    ending, part = watch.ending(values)
    if ending in ("softmax", "log_softmax") and single:
        raise NetworkError(
            f"{name} ends in a {ending} over one output, which is the same for every image. Give a "
            "module that returns the logit, or one output for each class."
        )
    if ending == "log_softmax":
        # Logits as they are; what goes into it differs by a constant, and can be walked.
        return Outputs(part=part)
    if not single and ending != "softmax" and _are_probabilities(values):
        return Outputs("softmax")
    if ending == "sigmoid" and not single:
        raise NetworkError(
            f"{name} ends in {values.shape[1]} sigmoids, each a probability of its own, so an "
            "image may have several classes or none; expected are classes of which it has one. "
            "Give a module without the sigmoid: its logits are then compared with each other."
        )
    return Outputs(ending, part, single)


def require_logits(
    values: Any, images: Float[Tensor, "batch ..."], name: str, pick: Pick = None
) -> Float[Tensor, "batch outputs"]:
    """Returns what a network made of a batch, a row for each image.

    Args:
        values: What it returned.
        images: The batch.
        name: Of the network, for errors.
        pick: Which of the things it returned are meant.

    Raises:
        NetworkError: If that is no floating-point value for each class, or not of each image.
    """
    values = picked(values, len(images), name, pick)
    if isinstance(values, Tensor) and values.shape == images.shape[:1]:
        values = values[:, None]
    if not isinstance(values, Tensor) or values.shape[:-1] != images.shape[:1]:
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise NetworkError(
            f"{name} should return logits of shape ({len(images)}, classes), but "
            f"returned {found}. Wrap it in a module that returns the logits alone."
        )
    if not values.is_floating_point() or not values.shape[1]:
        raise NetworkError(
            f"{name} should return a floating-point logit for each class, but returned "
            f"{values.shape[1]} values of {values.dtype} for each image. Wrap it in a module "
            "that returns the logits."
        )
    return values


def named_classes(
    names: Sequence[str], num_classes: int, outputs: Outputs, name: str
) -> tuple[str, ...]:
    """Returns the names of a network's classes.

    Args:
        names: One for each class, or none. Of one output, whose classes are two, also the second's
            alone.
        num_classes: How many there are.
        outputs: What the network returns.
        name: Of the network, for errors.

    Raises:
        NetworkError: If there are more or fewer names than classes.
    """
    if len(names) == 1 and outputs.is_single:
        return f"not {names[0]}", names[0]
    if names and len(names) != num_classes:
        raise NetworkError(
            f"{name} has {num_classes} classes, but {len(names)} class names "
            "were given. Give one name for each class, or none."
        )
    return tuple(names)


def _are_probabilities(values: Float[Tensor, "batch outputs"]) -> bool:
    gap = (values.double().sum(dim=1) - 1).abs().amax()
    return bool((values >= 0).all() and gap <= _SUM_TOLERANCE)


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what softmaxes and sigmoids return during a pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # The last of each alone: attention holds large ones.
        self._made: dict[str, Tensor] = {}
        self._parts: list[tuple[str, str, Tensor]] = []
        self._hooks = contextlib.ExitStack()
        for name, part in module.named_modules():
            if name and isinstance(part, _PARTS):
                self._hooks.enter_context(hooked(part, leaving=self._keep(name, part)))

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._hooks.close()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::").removesuffix("_")
        if name in _OPERATORS and isinstance(result, Tensor):
            self._made[_OPERATORS[name]] = result
        return result

    def _keep(self, name: str, part: nn.Module) -> Callable[..., None]:
        ending = {nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax"}.get(type(part), "sigmoid")

        def keep(value: Any, output: Any) -> None:
            # Only what has the shape of the outputs can take their place.
            both = isinstance(value, Tensor) and isinstance(output, Tensor)
            if both and value.shape == output.shape:
                self._parts.append((name, ending, output))

        return keep

    def ending(self, values: Tensor) -> tuple[str, str]:
        """Returns what made a pass's outputs, and the module that did; empty of what did not."""
        for name, ending, made in self._parts:
            if _same(made, values) and [part[0] for part in self._parts].count(name) == 1:
                return ending, name
        for ending, made in self._made.items():
            if _same(made, values):
                return ending, ""
        return "", ""


def _same(first: Tensor, second: Tensor) -> bool:
    return first.numel() == second.numel() and torch.equal(first.flatten(), second.flatten())
