"""Networks and layers in a few letters, as the command line names several: ``mlp=FILE:fc2``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchcollide.config import Network
from patchcollide.errors import NetworkError

ALL = "all"


@dataclass(frozen=True)
class NetworkSpec:
    """A network and the layers of it that are asked for.

    Attributes:
        name: As in ``network.name``.
        weights: As in ``network.weights``.
        layers: By their own names or their aliases, or ``all``; empty for what is usual.
    """

    name: str
    weights: str = "pretrained"
    layers: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How it is called in tables."""
        plain = self.weights in ("pretrained", "random")
        weights = "" if self.weights == "pretrained" else f"={self.weights}"
        return self.name + (weights if plain else f"={Path(self.weights).name}")

    def settings(self, base: Network) -> Network:
        """Returns the network's settings; device, precision and tolerance are those of ``base``."""
        changed = {"name": self.name, "weights": self.weights, "layer": "", "sha256": ""}
        return base.model_copy(update=changed)


def parse_spec(text: str) -> NetworkSpec:
    """Reads ``NAME[=WEIGHTS][:LAYER[,LAYER ...]]``.

    A file's name may have a colon: what follows the last one is a layer unless there is a file of
    the whole name.

    Raises:
        NetworkError: If a part is empty.
    """
    whole, colon, layers = text.rpartition(":")
    if not colon or Path(text.partition("=")[2]).is_file():
        whole, colon, layers = text, "", ""
    name, has_weights, weights = whole.partition("=")
    names = tuple(layer.strip() for layer in layers.split(",")) if colon else ()
    if not name or (has_weights and not weights) or not all(names):
        raise NetworkError(
            f"'{text}' names no network. Expected is NAME, NAME=WEIGHTS or either with :LAYER "
            "behind, such as mlp=mlp.safetensors:fc2."
        )
    return NetworkSpec(name, weights or "pretrained", names)


def merge_specs(specs: Sequence[NetworkSpec]) -> list[NetworkSpec]:
    """Joins the layers of specs of one network, in their order; none twice."""
    merged: dict[tuple[str, str], NetworkSpec] = {}
    for spec in specs:
        key = spec.name, spec.weights
        before = merged.get(key, NetworkSpec(*key))
        merged[key] = NetworkSpec(*key, tuple(dict.fromkeys([*before.layers, *spec.layers])))
    return list(merged.values())
