"""Tries every classifier of torchvision, and thirty families of timm: what can be asked of each.

Prints one JSON document, with a Markdown table under ``table``. Weights are random and images
noise of few pixels: what is tried is whether a network can be read, not what it sees. Of each, how
many of its activations can be chosen as a layer, of those that an operator's name tells; whether a
descent of a few steps at the last of them starts; and whether its first layer is affine in the
image, its edges can be walked, and its hulls bounded: yes, or the sentence that says no. What is
finished is kept in OUT, a file each, and not tried again.

    python scripts/bench_networks.py --out networks
    python scripts/bench_networks.py --out networks --names torchvision:resnet18 timm:resnet10t
"""

import argparse
import contextlib
import functools
import gc
import importlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_machine import count, describe_machine, finish
from torch.utils._python_dispatch import TorchDispatchMode

from patchcollide import find_polytope
from patchcollide.config import Network
from patchcollide.errors import InterruptedWorkError, PatchCollideError, RunError
from patchcollide.io.files import read_json, write_json
from patchcollide.networks.activations import TOLERANCES, blind_regions
from patchcollide.networks.affine import require_affine
from patchcollide.networks.linear_regions.points import trace
from patchcollide.networks.loading import load_at_any_layer
from patchcollide.networks.models.libraries import library_names
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.probes import noise_image
from patchcollide.networks.trace import run_capturing

FAMILIES = (
    "resnet10t", "resnetv2_50", "efficientnet_lite0", "mobilenetv3_small_050", "densenet121",
    "vgg11", "regnetx_002", "res2net50_14w_8s", "resnest14d", "seresnet50", "skresnet18",
    "dla34", "dpn48b", "ghostnet_050", "hrnet_w18_small", "inception_v4", "xception41",
    "cspresnet50", "selecsls42", "rexnet_100", "repvgg_a0", "tresnet_m", "nf_resnet50",
    "vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224",
    "convnext_atto", "mixer_s32_224", "levit_128s", "mobilevit_xxs", "poolformer_s12",
    "lcnet_035",
)  # fmt: skip
"""One of each family."""

# Of operators: what has a region where it is exactly constant.
_RELU_LIKE = {"relu", "hardtanh", "hardswish", "hardsigmoid", "threshold", "relu6"}

_SMOOTH = {"gelu", "silu", "sigmoid", "tanh", "elu", "leaky_relu", "mish", "softplus"}

_HEADER = """\
| network | size | ReLU-like | usable | other activations | usable to 0.1 | collision started | \
walk | exact | proof |
|---|---|---|---|---|---|---|---|---|---|"""


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators of activations that run, whoever asked for them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs an operator, and counts it by its kind."""
        del types
        name = function._schema.name.removeprefix("aten::").removesuffix("_")
        if name in _RELU_LIKE | _SMOOTH:
            self.found["relu" if name in _RELU_LIKE else "smooth"] += 1
        return function(*args, **(kwargs or {}))


def tried(attempt: Callable[[], Any]) -> str:
    """Returns ``yes``, or the sentence that says no."""
    try:
        attempt()
    except InterruptedWorkError:
        raise
    except PatchCollideError as error:
        return str(error)
    return "yes"


def measure(name: str, size: int, steps: int) -> dict[str, Any]:
    """Tries one network; what cannot be built says why under ``refused``."""
    begun = time.perf_counter()
    row: dict[str, Any] = {"network": name}
    for side in (size, 0):
        settings = Network(name=name, weights="random", input_size=side)
        try:
            network = load_at_any_layer(settings)
        except PatchCollideError as error:
            row["refused"] = str(error)
            continue
        row.pop("refused", None)
        row |= {"size_px": network.input_size} | asked(network, settings, steps)
        break
    return row | {"seconds": time.perf_counter() - begun}


def asked(network: CollisionNetwork, settings: Network, steps: int) -> dict[str, Any]:
    """Asks a network everything."""
    image = noise_image(network.channels, network.input_size)
    with Operators() as operators, torch.no_grad():
        network(image)
    seen: dict[str, Any] = {}
    run_capturing(
        network, image, network.usable_layers, lambda layer, z: seen.update({layer: z.shape})
    )
    exact = [call for call in network.calls if blind_regions(call.activation) and call.name in seen]
    layer = exact[-1].name if exact else network.layer
    rng = np.random.default_rng(0)
    side = network.input_size
    pair = [rng.integers(0, 256, (side, side, 3)).astype(np.uint8) for _ in range(2)]
    # Of a batch norm that was never trained, features may lie anywhere: no floor is asked for.
    options: dict[str, Any] = {
        "optimiser.steps": steps,
        "optimiser.num_vertices": 2,
        "objective.hull_samples": 1,
    }
    options |= {"optimiser.validation_samples": 2, "network.min_confidence": 0}
    options |= {"objective.units": "none"}

    def descend(tolerance: float) -> None:
        at = load_at_any_layer(settings.model_copy(update={"tolerance": tolerance}))
        found = find_polytope(at, layer, *pair, settings=options)
        if not np.isfinite([step["loss"] for step in found.history]).all():
            raise RunError("the loss is not finite")

    # Random weights leave features of some networks far below a tolerance for trained ones.
    tolerances = (0.0,) if exact else TOLERANCES[::-1]
    answers = [tried(functools.partial(descend, tolerances[0]))]
    for tolerance in tolerances[1:]:
        if answers[-1] != "yes":
            answers.append(tried(functools.partial(descend, tolerance)))
    row = {
        "relu_like": operators.found["relu"],
        "relu_like_usable": len(exact),
        "others": operators.found["smooth"],
        "others_usable": len(seen) - len(exact),
        "layer": layer,
        "collision": answers[-1],
    }
    return row | proofs(network, image)


def proofs(network: CollisionNetwork, image: torch.Tensor) -> dict[str, str]:
    """Asks for what is computed in float64."""
    double = network.in_float64().to("cpu")
    prepared = double.prepared(image)

    def walk() -> None:
        with torch.no_grad():
            trace(double.classifier, prepared, torch.ones_like(prepared[0]))

    first = double.at_layer(double.usable_layers[0])
    row = {"walk": tried(walk), "exact": tried(lambda: require_affine(first))}
    with contextlib.suppress(ImportError):
        tracing = importlib.import_module("patchcollide.proofs.tracing")
        row["proof"] = tried(lambda: tracing.read_program(double))
    return row


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the table, and beneath it what refusals say, numbered."""
    said: dict[str, int] = {}

    def cell(answer: str | None) -> str:
        if answer is None or answer == "yes":
            return answer or "not tried"
        # Names of layers and networks differ where the reason is the same.
        reason = re.sub(r"'[^']*'|\b(?:torchvision|timm):[\w.]+", "...", answer)
        return f"no ({said.setdefault(reason, len(said) + 1)})"

    lines = [_HEADER]
    for row in rows:
        if "refused" in row:
            lines.append(
                f"| {row['network']} |" + " - |" * 5 + f" {cell(row['refused'])} | - | - | - |"
            )
            continue
        answers = [cell(row.get(key)) for key in ("collision", "walk", "exact", "proof")]
        cells = [
            row["network"], f"{row['size_px']}", f"{row['relu_like']}",
            f"{row['relu_like_usable']}", f"{row['others']}", f"{row['others_usable']}", *answers,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    text = "\n".join(lines).split("\n")
    reasons = [f"| {number} | {reason.replace('|', ' ')} |" for reason, number in said.items()]
    return [*text, "", "| no | why |", "|---|---|", *reasons] if reasons else text


def main() -> dict[str, Any]:
    """Tries the networks that are asked for, and returns the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where finished rows are kept")
    parser.add_argument("--names", nargs="*", help="networks; by default all there are")
    parser.add_argument("--size", type=count, default=64, help="side of the images, in pixels")
    parser.add_argument("--steps", type=count, default=20, help="of the descent")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="after them nothing more is begun"
    )
    arguments = parser.parse_args()
    end = time.perf_counter() + 60 * arguments.minutes
    names = arguments.names or [
        *(f"torchvision:{name}" for name in library_names("torchvision")),
        *(f"timm:{name}" for name in FAMILIES),
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in names:
        path = arguments.out / f"{name.replace(':', '-')}.json"
        about = {"size": arguments.size, "steps": arguments.steps}
        kept = read_json(path, error=RunError) if path.exists() else {}
        if kept.get("about") != about and time.perf_counter() > end:
            continue
        if kept.get("about") != about:
            kept = {"about": about, "row": measure(name, arguments.size, arguments.steps)}
            write_json(path, kept)
        rows.append(kept["row"])
        gc.collect()
    ours = [row for row in rows if row["network"].startswith("torchvision:")]
    total, usable = (
        sum(row.get(key, 0) for row in ours) for key in ("relu_like", "relu_like_usable")
    )
    return {
        "machine": describe_machine(),
        "seed": 0,
        "rows": rows,
        "tried": f"{len(rows)} of {len(names)}",
        "relu_like_of_torchvision": total,
        "of_them_usable": usable,
        "table": table(rows),
    }


if __name__ == "__main__":
    finish(main)
