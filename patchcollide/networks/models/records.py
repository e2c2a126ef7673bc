"""What a library says of a network: what its images go through, and its classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from patchcollide.config import Network
from patchcollide.networks.preprocessing import Preprocessing


@dataclass(frozen=True)
class NetworkRecord:
    """What is known of a network beside its module.

    Attributes:
        preprocessing: What images go through.
        class_names: One for each class; empty if they are not known.
        url: Where its weights are, or a name of theirs; empty if there are none.
    """

    preprocessing: Preprocessing
    class_names: Sequence[str] = ()
    url: str = ""


def preprocessing_of(settings: Network, record: Preprocessing) -> Preprocessing:
    """Returns what images go through: what settings say, else what a record says.

    Raises:
        NetworkError: If that is not one or three values each.
    """
    return replace(
        record,
        input_size=settings.input_size or record.input_size,
        mean=settings.mean or record.mean,
        scale=settings.scale or record.scale,
    )


def record_of_module(module: nn.Module) -> NetworkRecord | None:
    """Returns what a module says of itself, as those of timm do; None of one that says nothing."""
    found: Any = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    if not isinstance(found, dict) or "input_size" not in found:
        return None
    channels, size, _ = found["input_size"]
    mean, scale = found.get("mean", (0.0,) * channels), found.get("std", (1.0,) * channels)
    return NetworkRecord(Preprocessing(size, tuple(mean), tuple(scale)))
