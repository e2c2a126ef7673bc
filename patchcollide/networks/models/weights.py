"""Weight files: reading without ever running what is in them, and writing."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.io.files import expanded, written_beside
from patchcollide.io.provenance import array_digest, file_digest, fingerprint
from patchcollide.shapes import Tensor

PICKLE_SUFFIXES = (".pth", ".pt")
SAFETENSORS_SUFFIX = ".safetensors"
_DIGEST_LENGTH = 64
_COUNT = "num_batches_tracked"

# Training scripts often save the weights beside the optimiser's state, under one of these.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: Path | str, sha256: str = "") -> dict[str, Tensor]:
    """Reads named tensors from a ``.pth``, ``.pt`` or ``.safetensors`` file, onto the CPU.

    A pickle is read with ``weights_only=True``: whatever is not a tensor or a plain container is
    refused and nothing of the file is run. Weights below ``"state_dict"``, ``"model_state_dict"``
    or ``"model"`` are found there.

    Args:
        path: The file.
        sha256: The SHA-256 that it must have; empty for any.

    Returns:
        Tensors by name, in the file's order.

    Raises:
        NetworkError: If the file is missing, has another SHA-256 or suffix, is damaged, or holds
            anything that is not a tensor.
    """
    path = checked_file(path, sha256)
    if path.suffix in PICKLE_SUFFIXES:
        return _tensors_only(_unpickle(path), path)
    if path.suffix == SAFETENSORS_SUFFIX:
        return _read_safetensors(path)
    raise NetworkError(
        f"The weights file {path} ends in '{path.suffix}', but a file of weights ends in .pth, "
        ".pt (torch.save) or .safetensors, or, for vgg16 alone, in .npz (Caffe's). Save the "
        "network's state_dict() as one of the first three."
    )


def checked_file(path: Path | str, sha256: str = "") -> Path:
    """Returns the path of a weights file that is there and has this SHA-256.

    Args:
        path: The file; ``~`` is the user's folder.
        sha256: 64 hexadecimal digits, or the first few of them; empty for any.

    Raises:
        NetworkError: If the file is missing, or has another SHA-256.
    """
    path = expanded(Path(path))
    if not path.is_file():
        raise NetworkError(
            f"The weights file {path} is missing. network.weights is 'pretrained', 'random' or "
            "the path of a .pth, .pt or .safetensors file, or of Caffe's .npz for vgg16."
        )
    if sha256:
        found = file_digest(path)
        if not found.startswith(sha256.lower()):
            expected = sha256.lower() + ("" if len(sha256) == len(found) else "...")
            raise NetworkError(
                f"The weights file {path} has the SHA-256 {found}, but expected is {expected}. "
                "Remove it and get it again, or correct network.sha256."
            )
    return path


def read_metadata(path: Path | str) -> dict[str, str]:
    """Returns what a ``.safetensors`` file says of its weights; nothing of other files."""
    path = checked_file(path)
    if path.suffix != SAFETENSORS_SUFFIX:
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if any(len(text) == _DIGEST_LENGTH for text in about.values()):
        _read_safetensors(path)
    return about


def write_weights(path: Path, module: nn.Module, about: Mapping[str, str]) -> None:
    """Writes a module's weights, and what is known of them, whole or not at all.

    Raises:
        DiskFullError: If there is no room left.
    """
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    with written_beside(path) as partial:
        digest = _content_digest(tensors, about)
        partial.write_bytes(safetensors.torch.save(tensors, {**about, "digest": digest}))


def require_no_digest(sha256: str) -> None:
    """Refuses a SHA-256 for random weights; NetworkError if there is one."""
    if sha256:
        raise NetworkError(
            f"network.sha256 is {sha256}, but network.weights = 'random' reads no file that could "
            "have it. Leave network.sha256 empty, or give a weights file."
        )


def load_weights(module: nn.Module, state_dict: Mapping[str, Tensor], where: str) -> None:
    """Gives a module its weights, which must have exactly its names and shapes.

    The tensors are cast to the module's types and become its own, without a copy where the type
    is the same; a module on the meta device is filled so.

    Args:
        module: The module, changed in place.
        state_dict: Tensors by name, in any order.
        where: What holds them, for errors.

    Raises:
        NetworkError: If names are missing or left over, or a shape differs.
    """
    expected = module.state_dict()
    # Files of before PyTorch 0.4 do not count batches, which nothing but training needs.
    counts = {name: tensor for name, tensor in expected.items() if name.endswith(_COUNT)}
    state_dict = counts | dict(state_dict)
    problems = _mismatches(expected, state_dict)
    if problems:
        raise NetworkError(
            f"{where} does not fit {type(module).__name__}: {'; '.join(problems)}. Give a "
            "state_dict() saved from the same architecture."
        )
    cast = {name: state_dict[name].to(tensor.dtype) for name, tensor in expected.items()}
    module.load_state_dict(cast, assign=True)


def classes_of(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> int | None:
    """Returns how many classes weights are for, if that is all in which they differ; else None.

    Args:
        expected: Of the network, by name.
        found: The weights, by name.
    """
    misshapen = [
        (tensor.shape, found[name].shape)
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    sizes = {other[:1] for _, other in misshapen}
    inner = all(shape[1:] == other[1:] for shape, other in misshapen)
    return sizes.pop()[0] if len(sizes) == 1 and inner and sizes != {torch.Size()} else None


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise NetworkError(f"The weights file {path} cannot be read: {error}.") from error
    except pickle.UnpicklingError as error:
        raise NetworkError(
            f"The weights file {path} was refused: it holds Python objects, which could run code "
            "when unpickled, or is damaged. Expected are tensors only: save "
            "module.state_dict() with torch.save, or as .safetensors."
        ) from error
    except Exception as error:  # damaged pickles raise anything: EOFError, KeyError, RuntimeError
        raise NetworkError(
            f"The weights file {path} is damaged or not a PyTorch file "
            f"({type(error).__name__}). Download or save it again."
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = dict(safetensors.torch.load_file(path, device="cpu"))
        with safetensors.safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    # Files of before, and of others, have none.
    for name, value in about.items():
        # Of what is not named so, one is only if a bit of its name is flipped.
        rest = {key: text for key, text in about.items() if key != name}
        is_digest = len(value) == _DIGEST_LENGTH and value == _content_digest(tensors, rest)
        if is_digest != (name == "digest"):
            raise _damaged(path, ValueError("its content does not have its digest"))
    return tensors


def _content_digest(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Returns the digest of all that a safetensors file of our own holds."""
    digests = {
        name: [str(tensor.dtype), list(tensor.shape), _bytes_digest(tensor)]
        for name, tensor in tensors.items()
    }
    return fingerprint({"about": dict(about), "tensors": digests})


def _bytes_digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return array_digest(flat.view(torch.uint8).numpy())


def _damaged(path: Path, error: Exception) -> NetworkError:
    return NetworkError(
        f"The weights file {path} is damaged or not a safetensors file ({error}). Download or save "
        "it again."
    )


def _tensors_only(value: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(wrapper), Mapping):
            value = value[wrapper]
            break
    if not isinstance(value, Mapping):
        raise NetworkError(
            f"The weights file {path} should hold a dictionary of tensors by name, but holds a "
            f"{type(value).__name__}. Save module.state_dict()."
        )
    others = [str(key) for key, tensor in value.items() if not isinstance(tensor, Tensor)]
    if others or not value:
        found = f"other values under {_listed(others)}" if others else "nothing"
        raise NetworkError(
            f"The weights file {path} should hold tensors by name, but holds {found}. Save "
            "module.state_dict()."
        )
    return {str(key): tensor for key, tensor in value.items()}


def _mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    named = {"missing": missing, "not expected": unexpected, "of another shape": misshapen}
    return [f"{what}: {_listed(names)}" for what, names in named.items() if names]


def _listed(names: Iterable[str], limit: int = 4) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
