"""Weight files: reading without ever running what is in them, and writing."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.io.files import expanded, written_beside
from patchcollide.io.provenance import array_digest, file_digest, fingerprint
from patchcollide.networks.models.checkpoints import is_npz, kind_of_file, tensors_of, unpickle
from patchcollide.shapes import Tensor

logger = logging.getLogger(__name__)

SAFETENSORS_SUFFIX = ".safetensors"
_DIGEST_LENGTH = 64
_COUNT = "num_batches_tracked"


def read_state_dict(path: Path | str, sha256: str = "") -> dict[str, Tensor]:
    """Reads named tensors from a file of ``torch.save`` or of safetensors, onto the CPU.

    Which of the two it is its content says, not its suffix. Nothing of the file is run; weights
    that are found below ``"state_dict"`` and the like are taken from there: see
    :mod:`patchcollide.networks.models.checkpoints`.

    Args:
        path: The file.
        sha256: The SHA-256 that it must have; empty for any.

    Returns:
        Tensors by name, in the file's order.

    Raises:
        NetworkError: If the file is missing, has another SHA-256, is damaged, or holds anything
            that is not a tensor.
    """
    path = checked_file(path, sha256)
    if kind_of_file(path) == "safetensors":
        return _read_safetensors(path)
    return tensors_of(unpickle(path), path)


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
            "the path of a file of torch.save or of safetensors, or of Caffe's .npz for vgg16."
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
    """Returns what a file of safetensors says of its weights; nothing of other files."""
    path = checked_file(path)
    if is_npz(path) or kind_of_file(path) != "safetensors":
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
        DiskFullError: If the disk is full.
    """
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    with written_beside(path) as partial:
        digest = _content_digest(tensors, about)
        partial.write_bytes(safetensors.torch.save(tensors, {**about, "digest": digest}))


def require_no_digest(sha256: str, weights: str = "random") -> None:
    """Refuses a SHA-256 for weights that no file of ours holds; NetworkError if there is one."""
    if sha256:
        raise NetworkError(
            f"network.sha256 is {sha256}, but network.weights = '{weights}' reads no file that "
            "could have it. Leave network.sha256 empty, or give a weights file."
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
    state_dict = fitted(expected, state_dict, where)
    # Files of before PyTorch 0.4 do not count batches, which nothing but training needs.
    counts = {name: tensor for name, tensor in expected.items() if name.endswith(_COUNT)}
    state_dict = counts | dict(state_dict)
    problems = _mismatches(expected, state_dict)
    if problems:
        raise NetworkError(
            f"{where} does not fit {type(module).__name__}: {'; '.join(problems)}. Give a "
            "state_dict() saved from the same architecture."
        )
    _require_numbers(expected, state_dict, where)
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


def fitted(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str
) -> Mapping[str, Tensor]:
    """Returns weights by the names that a module has, where a prefix is all that they differ in.

    ``module.`` is from ``nn.DataParallel``, ``_orig_mod.`` from ``torch.compile``, others from
    what was around the module in training, which may have had weights of its own.
    """
    wanted = {name for name in expected if not name.endswith(_COUNT)}
    if not wanted or wanted & found.keys():
        return found
    anchor = min(wanted)
    for name in found:
        if name.endswith(f".{anchor}"):
            prefix = name.removesuffix(anchor)
            inner = {n.removeprefix(prefix): t for n, t in found.items() if n.startswith(prefix)}
            if wanted <= inner.keys():
                left = len(found) - len(inner)
                rest = f", {left} others left out" if left else ""
                logger.info("%s: names begin with '%s' there%s.", where, prefix, rest)
                return inner
    first = min(found, default="")
    prefix = next((n.removesuffix(first) for n in wanted if n.endswith(f".{first}")), "")
    return {f"{prefix}{name}": tensor for name, tensor in found.items()} if first else found


def _require_numbers(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str
) -> None:
    for name, tensor in expected.items():
        other = found[name]
        kind = "quantised" if other.is_quantized else "complex" if other.is_complex() else ""
        if not kind and tensor.is_floating_point() and not other.is_floating_point():
            kind = f"{other.dtype}".removeprefix("torch.")
        if kind:
            raise NetworkError(
                f"{where} holds {kind} numbers under {name}, where real floating-point ones are "
                "expected. Save the weights as they were before they were converted."
            )


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
