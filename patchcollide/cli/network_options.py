"""Options for networks: their names, weights and layers, and what their images go through."""

from dataclasses import dataclass
from typing import Annotated

from patchcollide.cli.framework import BadParameter, Option, ask_for

NetworkName = Annotated[
    str | None,
    Option(
        "--network",
        help="efficientnet_lite0, vgg16, mlp, lenet5, torchvision:NAME, timm:NAME, or "
        "package.module:function, whose code is then run; see `patchcollide networks`.",
        metavar="NAME",
        show_default="efficientnet_lite0",
    ),
]
LayerName = Annotated[
    str | None,
    Option(
        "--layer",
        help="Its activation, by name.",
        metavar="NAME",
        show_default="its own: bn2.act of efficientnet_lite0, fc6 of vgg16",
    ),
]
Weights = Annotated[
    str | None,
    Option(help="pretrained, random, or a .pth, .safetensors or Caffe's .npz file."),
]
InputSize = Annotated[
    int | None,
    Option(min=1, help="Side of its images; by default its library's.", metavar="PIXELS"),
]
Mean = Annotated[
    str | None,
    Option(help="What it wants subtracted from images in [0, 1].", metavar="R,G,B"),
]
Scale = Annotated[str | None, Option(help="What it wants them then divided by.", metavar="R,G,B")]


@dataclass(frozen=True)
class NetworkOptions:
    """Options for the network, its weights, and what its images go through."""

    network: NetworkName = None
    weights: Weights = None
    input_size: InputSize = None
    mean: Mean = None
    scale: Scale = None

    @property
    def options(self) -> dict[str, object]:
        """By the names of settings."""
        return {
            "network.name": self.network,
            "network.weights": self.weights,
            "network.input_size": self.input_size,
            "network.mean": _numbers("--mean", self.mean),
            "network.scale": _numbers("--scale", self.scale),
        }


@dataclass(frozen=True)
class NetworkChoice(NetworkOptions):
    """The same, and its layer."""

    layer: LayerName = None

    @property
    def options(self) -> dict[str, object]:
        """By the names of settings."""
        return {**super().options, "network.layer": self.layer}


@dataclass(frozen=True)
class RunCode:
    """An option for runs of networks that a function makes."""

    run_code: Annotated[
        str | None,
        Option(
            help="The function that made the run's network: lets its code run.",
            metavar="package.module:function",
        ),
    ] = None

    def __post_init__(self) -> None:
        ask_for(self.run_code)


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadParameter(
            f"{option} should be numbers with commas between, such as 0.5,0.5,0.5, but is {text}."
        ) from None
