"""Modes of PyTorch that a caller may be in, each as a context manager that ends it again."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class RoundedMode(TorchFunctionMode):
    """Rounds every floating result to bfloat16."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return _rounded(function(*args, **(kwargs or {})))


class RoundedDispatch(TorchDispatchMode):
    """Likewise, behind autograd."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _rounded(function(*args, **(kwargs or {})))


Context = contextlib.AbstractContextManager[Any]


def _rounded(result: object) -> object:
    if isinstance(result, torch.Tensor) and result.is_floating_point():
        return result.bfloat16().to(result.dtype)
    return result


@contextlib.contextmanager
def _changed(change: Callable[[], object], back: Callable[[], object]) -> Iterator[None]:
    change()
    try:
        yield
    finally:
        back()


def _backend(
    backend: str, operation: str, precision: str
) -> contextlib.AbstractContextManager[Any]:
    if not hasattr(torch._C, "_set_fp32_precision_setter"):
        return contextlib.nullcontext()
    before = torch._C._get_fp32_precision_getter(backend, operation)
    return _changed(
        lambda: torch._C._set_fp32_precision_setter(backend, operation, precision),
        lambda: torch._C._set_fp32_precision_setter(backend, operation, before),
    )


def _matmul(precision: str) -> Context:
    return _changed(
        lambda: torch.set_float32_matmul_precision(precision),
        lambda: torch.set_float32_matmul_precision("highest"),
    )


@contextlib.contextmanager
def _contradiction() -> Iterator[None]:
    with _matmul("medium"), _backend("cuda", "matmul", "ieee"), _backend("generic", "all", "tf32"):
        yield


TORCH_MODES: dict[str, Callable[[], Context]] = {
    "none": contextlib.nullcontext,
    "no grad": lambda: torch.set_grad_enabled(False),
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float16 autocast": lambda: torch.autocast("cpu", torch.float16),
    "medium precision": lambda: _matmul("medium"),
    "tf32 everywhere": lambda: _backend("generic", "all", "tf32"),
    "bf16 products": lambda: _backend("mkldnn", "matmul", "bf16"),
    "contradiction": _contradiction,
    "float64": lambda: _changed(
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float32),
    ),
    "bfloat16": lambda: _changed(
        lambda: torch.set_default_dtype(torch.bfloat16),
        lambda: torch.set_default_dtype(torch.float32),
    ),
    # Before the device of a block: older versions do not unset the default within one.
    "default device": lambda: _changed(
        lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)
    ),
    "meta device": lambda: torch.device("meta"),
    "deterministic": lambda: _changed(
        lambda: torch._C._set_deterministic_algorithms(True),  # the public one imports a compiler
        lambda: torch._C._set_deterministic_algorithms(False),
    ),
    "flushed": lambda: _changed(
        lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)
    ),
    "function mode": RoundedMode,
    "dispatch mode": RoundedDispatch,
    "fake tensors": FakeTensorMode,
}
"""By name; "none" is the state that tests begin with."""


def torch_state() -> dict[str, Any]:
    """Everything that the modes above change, as it is now."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:
        precision = "contradicted"
    shown = getattr(torch._C, "_get_fp32_precision_getter", None)
    places = [("generic", "all"), ("mkldnn", "all"), ("cuda", "all"), ("mkldnn", "matmul")]
    places += [("cuda", "matmul"), ("mkldnn", "conv"), ("cuda", "conv")]
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "autocast type": torch.get_autocast_dtype("cpu"),
        "precision": precision,
        "backends": [shown(*place) for place in places] if shown else [],
        "dtype": torch.get_default_dtype(),
        "function modes": [
            torch._C._get_function_stack_at(number)
            for number in range(torch._C._len_torch_function_stack())
        ],
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "flushed": 5e-324 * len("x") == 0,
        "threads": torch.get_num_threads(),
    }
