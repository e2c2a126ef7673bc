"""PyTorch's modes, set for a proof.

A program, a notebook or a library sets modes for itself: autocast, a faster float32, a default
device. What counts as proven must not follow them. Some belong to a thread, some to the whole
process; threads enter and leave at different times, so the latter are counted: the first to enter
sets them, the last to leave restores them.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import torch
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes

from patchcollide.errors import WorkError

_SMALLEST = 5e-324
_FULL = ("none", "ieee")
_PRODUCTS = (("mkldnn", "matmul"), ("mkldnn", "conv"), ("cuda", "matmul"))


@contextlib.contextmanager
def proof_modes(*, grad: bool = False, device: str | torch.device = "cpu") -> Iterator[None]:
    """Has PyTorch compute as the code says, whatever modes the caller has set; restores them all.

    Within there is no inference mode, no autocast, no ``TorchFunctionMode`` and so no default
    device, and no ``TorchDispatchMode``; denormal numbers are kept, float32 matrices are multiplied
    as float32, and float32 is the default type. Each thread needs its own. It also decorates
    functions, but not generators. Left alone are deterministic algorithms, which change no value
    that is proven, the numbers of threads, and how GPUs compute convolutions.

    Args:
        grad: Whether gradients are recorded.
        device: Of the network that runs within: a default device of this type stays, as the network
            may need it.

    Raises:
        WorkError: If another thread made products of float32 less precise meanwhile.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(grad))
        _leave_autocast(stack)
        if torch._C._len_torch_function_stack():
            _leave_function_modes(stack, torch.device(device).type)
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(_disable_current_modes())
        # Where denormal numbers are flushed, this one is taken for zero.
        if _SMALLEST * 1.0 == 0 and torch.set_flush_denormal(False):
            stack.callback(torch.set_flush_denormal, True)
        stack.enter_context(_OF_PROCESS)
        yield


def _leave_autocast(stack: ExitStack) -> None:
    for device in _autocast_devices():
        if torch.is_autocast_enabled(device):
            torch.set_autocast_enabled(device, False)
            stack.callback(torch.set_autocast_enabled, device, True)


@functools.cache
def _autocast_devices() -> tuple[str, ...]:
    known = getattr(torch._C, "_autocast_supported_devices", None)
    return tuple(known()) if known else ("cpu", "cuda")


def _leave_function_modes(stack: ExitStack, kept: str) -> None:
    """Takes all modes off their stack, but for a default device of the type ``kept``."""
    count = torch._C._len_torch_function_stack()
    modes = [torch._C._pop_torch_function_stack() for _ in range(count)]
    for mode in modes:
        stack.callback(torch._C._push_on_torch_function_stack, mode)
    for mode in modes:
        if isinstance(mode, DeviceContext) and mode.device.type == kept != "cpu":
            torch._C._push_on_torch_function_stack(mode)
            stack.callback(torch._C._pop_torch_function_stack)


class _ProcessModes:
    """The modes of the whole process: how float32 matrices are multiplied, and the default type.

    Whoever enters finds them right, even if another thread has changed them since they were set;
    what they are restored to is then what that thread wants.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore_precision: Callable[[], None] | None = None
        self._dtype: torch.dtype | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not _is_precise():
                self._restore_precision = _make_precise()
            if torch.get_default_dtype() != torch.float32:
                self._dtype = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            changed = not _is_precise()
            if not self._inside:
                if self._restore_precision and not changed:
                    self._restore_precision()
                if self._dtype and torch.get_default_dtype() == torch.float32:
                    torch.set_default_dtype(self._dtype)
                self._restore_precision = self._dtype = None
        if changed:
            raise WorkError(
                "Expected products of float32 in full precision, but another thread made them less "
                "precise while a result was proven. Set torch's float32 precision before such work "
                "begins, and repeat it."
            )


_OF_PROCESS = _ProcessModes()


def _is_precise() -> bool:
    """Says whether products of float32 are of full precision, and no setting contradicts that."""
    if any(_shown(*product) not in _FULL for product in _products()):
        return False
    return torch.get_float32_matmul_precision() == "highest"


def _make_precise() -> Callable[[], None]:
    """Sets full precision; returns what restores the settings as they are.

    ``torch.set_float32_matmul_precision`` also sets the products of each backend, which a program
    can set by themselves. If they contradict it, even reading it is an error.
    """
    before = {product: _own_setting(*product) for product in _products()}
    for product in before:
        torch._C._set_fp32_precision_setter(*product, "ieee")
    overall = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")

    def restore() -> None:
        torch.set_float32_matmul_precision(overall)
        for product, setting in before.items():
            torch._C._set_fp32_precision_setter(*product, setting)

    return restore


@functools.cache
def _products() -> tuple[tuple[str, str], ...]:
    # Before PyTorch 2.9 there is one setting for all.
    return _PRODUCTS if hasattr(torch._C, "_get_fp32_precision_getter") else ()


def _shown(backend: str, operation: str) -> str:
    return str(torch._C._get_fp32_precision_getter(backend, operation))


def _own_setting(backend: str, operation: str) -> str:
    """Returns what was set for an operation itself: "none" where it only shows what is above it."""
    shown = _shown(backend, operation)
    above = ("generic", "all") if operation == "all" else (backend, "all")
    if backend == "generic" or shown == "none" or shown != _shown(*above):
        return shown
    setting = _own_setting(*above)
    # Either is full precision, so that no other thread computes worse meanwhile.
    torch._C._set_fp32_precision_setter(*above, "none" if shown == "ieee" else "ieee")
    own = shown if _shown(backend, operation) == shown else "none"
    torch._C._set_fp32_precision_setter(*above, setting)
    return own
