"""Checkpoints as training scripts write them: told by their content, read without running any.

A pickle is read by PyTorch's safe loader, with a short list of plain values allowed beside tensors:
numbers of NumPy and the options of a command line, which scripts save with the weights.
"""

import argparse
import logging
import pickle
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcollide.errors import NetworkError
from patchcollide.shapes import Tensor

logger = logging.getLogger(__name__)

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"

# What other files begin with, and what to do with them.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"<", "a web page, as a download that failed leaves it. Download the file again"),
    (b"version https://git-lfs", "a pointer to a file of Git LFS. Run `git lfs pull`"),
    (b"{", "JSON, such as an index of several files. Give a file with all weights"),
    (b"\x89HDF", "HDF5, as Keras writes it. Save a state_dict() of PyTorch"),
    (b"\x1f\x8b", "compressed by gzip. Unpack it"),
    (b"\x08", "ONNX or TensorFlow's. Save a state_dict() of PyTorch"),
)

# Where training scripts put the weights, the likeliest first.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "module")

# Averages over the training, which some put beside them.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema")

_MOST_LEVELS = 3

_PLAIN_VALUES: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    np.float64(0).__reduce__()[0],
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bhilqBHILQefd"),
]


def kind_of_file(path: Path) -> str:
    """Returns ``safetensors``, ``zip`` or ``pickle``, by what a file begins with.

    Raises:
        NetworkError: If it is something else.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise NetworkError(f"The weights file {path} cannot be read: {error}.") from error
    if head.startswith(_ZIP):
        if is_npz(path):
            raise NetworkError(
                f"The weights file {path} is NumPy's .npz, which is read for vgg16 alone, with "
                "Caffe's weights. Save the network's state_dict() with torch.save or as "
                ".safetensors."
            )
        return "zip"
    if head.startswith(_PICKLE):
        return "pickle"
    if head[8:9] == b"{":
        return "safetensors"
    what = next((what for begin, what in _OTHERS if head.startswith(begin)), "")
    if what:
        raise NetworkError(f"The weights file {path} is {what}.")
    found = f"begins with {head[:8]!r}" if head else "is empty"
    raise NetworkError(
        f"The weights file {path} is damaged or none: expected is a file of torch.save or of "
        f"safetensors, but it {found}. Download or save it again."
    )


def is_npz(path: Path) -> bool:
    """Whether a file holds NumPy's arrays, as Caffe's weights of VGG-16 come."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def unpickle(path: Path) -> Any:
    """Reads what ``torch.save`` wrote: tensors, containers and plain values.

    Raises:
        NetworkError: If it holds anything else, or is damaged.
    """
    try:
        with torch.serialization.safe_globals(_PLAIN_VALUES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise NetworkError(f"The weights file {path} cannot be read: {error}.") from error
    except pickle.UnpicklingError as error:
        raise NetworkError(
            f"The weights file {path} was refused: it holds Python objects{_named(path)}, which "
            "could run code when unpickled, or is damaged. Expected are tensors only: save "
            "module.state_dict() with torch.save, or as .safetensors."
        ) from error
    except Exception as error:  # damaged pickles raise anything: EOFError, KeyError, RuntimeError
        if "TorchScript" in str(error):
            raise NetworkError(
                f"The weights file {path} is a whole network of TorchScript. Name a function that "
                "returns torch.jit.load of it: --network package.module:function."
            ) from error
        raise NetworkError(
            f"The weights file {path} is damaged or not a PyTorch file "
            f"({type(error).__name__}). Download or save it again."
        ) from error


def _named(path: Path) -> str:
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # It reads the same damaged file.
        return ""
    allowed = {f"{each.__module__}.{each.__name__}" for each in (argparse.Namespace,)}
    names = [name for name in found if name not in allowed]
    return f" ({', '.join(names[:3])})" if names else ""


def tensors_of(value: Any, path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint, by name.

    Args:
        value: What the file holds: weights, or a dictionary that has them somewhere.
        path: The file, for errors.

    Raises:
        NetworkError: If there are none, or other things among them.
    """
    where = ""
    for _ in range(_MOST_LEVELS):
        key = next(_places(value), None)
        if key is None:
            break
        others = [other for other in _AVERAGES if other in value and other != key]
        beside = f" ({', '.join(others)} beside it is left out)" if others else ""
        where = f"{where}.{key}".lstrip(".")
        logger.info("%s: weights are taken from '%s'%s.", path, where, beside)
        value = value[key]
    if not isinstance(value, Mapping):
        raise NetworkError(
            f"The weights file {path} should hold a dictionary of tensors by name, but holds a "
            f"{type(value).__name__}. Save module.state_dict()."
        )
    strange = [str(key) for key, tensor in value.items() if not isinstance(tensor, Tensor)]
    if strange or not value:
        more = f" and {len(strange) - 4} more" if len(strange) > 4 else ""
        found = f"other values under {', '.join(strange[:4])}{more}" if strange else "nothing"
        raise NetworkError(
            f"The weights file {path} should hold tensors by name, but holds {found}"
            f"{f' in {where}' if where else ''}. Save module.state_dict()."
        )
    return {str(key): tensor for key, tensor in value.items()}


def _places(value: Any) -> Iterator[str]:
    """Yields the keys under which there may be weights, the likeliest first."""
    if isinstance(value, Mapping):
        for key in (*_KEYS, *_AVERAGES):
            if isinstance(value.get(key), Mapping):
                yield key
