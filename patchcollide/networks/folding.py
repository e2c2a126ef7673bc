"""A quick copy of a network, the same to rounding, with fewer and cheaper operations.

Batch norms move into the convolutions and linear layers before them, convolutions that pad their
input themselves get padding of their own, kernels of one pixel go where they are fastest, and what
clamps the output of a convolution becomes part of it. What can be changed is seen in a pass, not
read from code, and the copy is compared with the network. A proof is of the network itself: nothing
that proves may use a copy.
"""

import contextlib
import copy
import logging
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.clamped import clamped_together
from patchcollide.networks.curves import curve_of
from patchcollide.networks.hooks import hooked
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.pixelwise import PixelConvolution, is_pixelwise
from patchcollide.networks.probes import grey_image, noise_image
from patchcollide.shapes import Tensor

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""What a copy's pre-activations and logits may differ by, of the largest; else it is not used."""

_REFUSED = (TypeError, ValueError, AttributeError, RuntimeError, copy.Error, pickle.PicklingError)
"""What copying raises for modules that hold more than parameters, such as locks and files."""

_AFFINE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_Affine: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def quick_copy(network: CollisionNetwork) -> CollisionNetwork:
    """Returns a network that computes the same to :data:`TOLERANCE`, quicker where it can.

    The network, its module and parameters stay as they are; the copy shares those that it does not
    change, and is of no use once the network's weights change. It shows the network's layer, and of
    others maybe none. Batch norms stay that follow nothing they could move into, as do those in
    training, whose answer depends on the batch.

    Args:
        network: Any; it is returned itself if nothing of it can be made quicker, or if its module
            cannot be copied.
    """
    try:
        other = _changed(network)
    except _REFUSED as error:
        logger.info("%s is used as it is: it cannot be copied (%s).", network.full_name, error)
        return network
    return other if other is not None and _agree(network, other) else network


def twin(network: CollisionNetwork) -> CollisionNetwork | None:
    """Returns the same network with modules of its own, of the same parameters, for another thread.

    Two threads would show each other what goes through one module.

    Returns:
        None if its module cannot be copied, or a copy answers otherwise.
    """
    try:
        other = _copied(network)
        return other if _agree(network, other) else None
    except (*_REFUSED, NetworkError):
        return None


def _copied(network: CollisionNetwork) -> CollisionNetwork:
    other = copy.copy(network)
    tensors = [*network.module.parameters(), *network.module.buffers()]
    other.module = copy.deepcopy(network.module, {id(tensor): tensor for tensor in tensors})
    other.__dict__.pop("_low_precision_module", None)
    other.__dict__["digest"] = network.digest
    return other


def _changed(network: CollisionNetwork) -> CollisionNetwork | None:
    """Returns a copy with whatever can be made quicker; None without any."""
    other = _copied(network)
    seen = _Watched(other)
    replaced: dict[nn.Module, nn.Module] = {}
    for part, norm in seen.pairs():
        if not isinstance(norm, _NORMS):
            continue
        target = seen.padding.get(part, part)
        target.weight, target.bias = fold_batch_norm(part, norm, target.weight)
        replaced[norm] = nn.Identity()
    replaced |= seen.padding
    _replace(other.module, replaced)
    clamped = _clamp(other)
    pixelwise: dict[nn.Module, nn.Module] = {
        part: PixelConvolution(part) for part in other.module.modules() if is_pixelwise(part)
    }
    _replace(other.module, pixelwise)
    return other if replaced or clamped or pixelwise else None


def _replace(module: nn.Module, others: Mapping[nn.Module, nn.Module]) -> None:
    """Puts others in the places of parts, under each of their names."""
    for name, found in list(module.named_modules(remove_duplicate=False)):
        if found in others:
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, others[found])


def _clamp(network: CollisionNetwork) -> bool:
    """Joins activations that clamp with the convolutions before them; says whether there are any.

    Not the one whose input is shown.
    """
    shown = network.module.get_submodule(network.call.part)
    replaced: dict[nn.Module, nn.Module] = {}
    for part, activation in _Watched(network).pairs():
        both = clamped_together(part, activation)
        if both is not None and activation is not shown:
            replaced |= {part: both, activation: nn.Identity()}
    _replace(network.module, replaced)
    return bool(replaced)


def fold_batch_norm(
    part: nn.Module, norm: nn.Module, weight: Tensor | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    """Returns the weight and bias of a convolution or linear layer with a batch norm behind it.

    Computed in float64: ``w s`` and ``(b - mean) s + beta`` with ``s = gamma / sqrt(var + eps)``.

    Args:
        part: The convolution or linear layer.
        norm: A batch norm with statistics, in evaluation mode.
        weight: What to fold in place of the part's own weight, such as a wider kernel.
    """
    own: Any = part.weight if weight is None else weight
    known: Any = norm
    mean, variance = known.running_mean.double(), known.running_var.double()
    gamma = torch.ones_like(mean) if known.weight is None else known.weight.double()
    beta = torch.zeros_like(mean) if known.bias is None else known.bias.double()
    bias: Any = part.bias
    before = torch.zeros_like(mean) if bias is None else bias.double()
    scale = gamma / (variance + known.eps).sqrt()
    folded = own.double() * scale.reshape(-1, *[1] * (own.ndim - 1))
    shift = (before - mean) * scale + beta
    return (
        nn.Parameter(folded.to(own.dtype), requires_grad=False),
        nn.Parameter(shift.to(own.dtype), requires_grad=False),
    )


class _Watched:
    """What a pass shows of a network's parts: what goes from which into which, and how often.

    Attributes:
        padding: For convolutions that pad their input themselves, others that need not.
    """

    def __init__(self, network: CollisionNetwork) -> None:
        self.padding: dict[nn.Module, nn.Module] = {}
        self._runs: Counter[nn.Module] = Counter()
        # Tensors are kept, so that no other gets their place in memory.
        self._left: dict[int, tuple[nn.Module, Tensor, int, Any]] = {}
        self._before: dict[nn.Module, tuple[nn.Module, Any]] = {}
        with contextlib.ExitStack() as stack:
            for part in network.module.modules():
                stack.enter_context(self._watching(part))
            image = noise_image(network.channels, network.input_size).requires_grad_()
            with torch.inference_mode(False), torch.enable_grad():
                logits = network(image).logits
        self._uses = _uses(logits)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Yields what a batch norm or a clamp can be joined with, and it: nothing sees between."""
        for behind, (part, node) in self._before.items():
            if self._runs[behind] == self._runs[part] == self._uses[node] == 1:
                yield part, behind

    def _watching(self, part: nn.Module) -> contextlib.AbstractContextManager[None]:
        # What hooks do with a part, nobody knows.
        if part._forward_hooks or part._forward_pre_hooks:
            return contextlib.nullcontext()
        if _has_statistics(part) or _clamps(part):
            return hooked(part, partial(self._enter, part))
        if isinstance(part, _AFFINE) and not hasattr(part, "parametrizations"):
            return hooked(part, leaving=partial(self._leave, part))
        return contextlib.nullcontext()

    def _enter(self, behind: nn.Module, value: Tensor) -> None:
        self._runs[behind] += 1
        part, _, version, node = self._left.get(id(value), (None, value, -1, None))
        if part is not None and version == value._version:
            self._before[behind] = part, node

    def _leave(self, part: Any, value: Tensor, output: Tensor) -> None:
        self._runs[part] += 1
        plain = type(part) in _AFFINE
        if not plain and isinstance(part, nn.Conv2d):
            found = _with_own_padding(part, value, output)
            if found is not None and self._runs[part] == 1:
                self.padding[part], plain = found, True
            else:
                self.padding.pop(part, None)
        if plain and (output.ndim == 2 or not isinstance(part, nn.Linear)):
            self._left[id(output)] = part, output, output._version, output.grad_fn


def _has_statistics(norm: nn.Module) -> bool:
    """Whether a batch norm is one affine map of each channel, and nothing more."""
    known: Any = norm
    return type(norm) in _NORMS and not norm.training and known.running_mean is not None


def _clamps(part: nn.Module) -> bool:
    curve = curve_of(part)
    return curve is not None and curve.name == "clamp"


def _uses(root: Tensor) -> Counter[Any]:
    """Counts what reads each node of a graph of gradients; the root reads the last one."""
    uses: Counter[Any] = Counter([root.grad_fn])
    waiting, met = [root.grad_fn], {root.grad_fn}
    while waiting:
        node: Any = waiting.pop()
        for reads, _ in node.next_functions if node is not None else ():
            uses[reads] += 1
            if reads not in met:
                met.add(reads)
                waiting.append(reads)
    return uses


def _with_own_padding(conv: nn.Conv2d, value: Tensor, output: Tensor) -> nn.Conv2d | None:
    """Returns a convolution that need not copy its input to pad it, if that is all a kind does.

    Padding as TensorFlow's, which is unequal: zeros before the kernel make it equal. Decided by
    what comes out.
    """
    if conv.dilation != (1, 1) or conv.padding != (0, 0) or conv.padding_mode != "zeros":
        return None
    wider, padding = [], []
    for kernel, stride, size in zip(conv.kernel_size, conv.stride, value.shape[-2:], strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        wider.append(total % 2)
        padding.append(total - total // 2)
    height, width = padding
    found = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (conv.kernel_size[0] + wider[0], conv.kernel_size[1] + wider[1]),
        (conv.stride[0], conv.stride[1]),
        (height, width),
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    kernels = F.pad(conv.weight.detach(), (wider[1], 0, wider[0], 0))
    last = conv.weight.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    weight = kernels.contiguous(memory_format=layout)
    found.weight = nn.Parameter(weight, requires_grad=False)
    found.bias = conv.bias
    with torch.no_grad():
        again = found.eval()(value)
    return found if again.shape == output.shape and _are_close(again, output) else None


def _agree(network: CollisionNetwork, other: CollisionNetwork) -> bool:
    sides = network.channels, network.input_size
    images = torch.cat([noise_image(*sides), grey_image(*sides)])
    with torch.no_grad():
        pairs = zip(network(images), other(images), strict=True)
        return all(_are_close(found, expected) for expected, found in pairs)


def _are_close(found: Tensor, expected: Tensor) -> bool:
    if not expected.numel():
        return True
    return bool((found - expected).abs().amax() <= TOLERANCE * expected.abs().amax())
