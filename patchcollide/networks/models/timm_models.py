"""The networks of timm: their names, architectures, records, and downloads."""

from typing import Any

import timm.models
from torch import nn

from patchcollide.errors import NetworkError


def timm_names() -> list[str]:
    """Returns the names of all networks, in alphabetical order."""
    return list(timm.models.list_models())


def create_model(name: str) -> nn.Module:
    """Returns a network with random weights, as timm makes it."""
    module: nn.Module = timm.models.create_model(name, pretrained=False)
    return module


def build_timm(
    name: str, input_size: int = 0, *, num_classes: int | None = None, pretrained: bool = False
) -> nn.Module:
    """Returns a network.

    Args:
        name: One of :func:`timm_names`, also with a tag behind a dot, as timm has it.
        input_size: Side of its images, in pixels; 0 for its own.
        num_classes: How many classes it has; None for its own.
        pretrained: Whether it gets its weights, which timm downloads; else they are random.

    Raises:
        NetworkError: If it takes no images of this size, or its weights cannot be had.
    """
    sized: dict[str, Any] = {"img_size": input_size} if input_size else {}
    options = {} if num_classes is None else {"num_classes": num_classes}
    try:
        try:
            return _create(name, pretrained, **options, **sized)
        except TypeError:  # Networks of convolutions know no size.
            return _create(name, pretrained, **options)
    except Exception as error:  # Its hub's client has exceptions of its own, and libraries of it.
        if not pretrained:
            raise NetworkError(
                f"timm:{name} cannot be built for images of {input_size} pixels: {error} Choose "
                "another --input-size."
            ) from error
        raise NetworkError(
            f"The weights of timm:{name} could not be had: {type(error).__name__}: {error} Get "
            f"model.safetensors of {_place(name)} on another machine, and give its path: --weights "
            "FILE. Without any, --weights random is for tries."
        ) from error


def _create(name: str, pretrained: bool, **options: Any) -> nn.Module:
    module: nn.Module = timm.models.create_model(name, pretrained=pretrained, **options)
    return module


def _place(name: str) -> str:
    found = timm.models.get_pretrained_cfg(name)
    return str((found and (found.hf_hub_id or found.url)) or name)
