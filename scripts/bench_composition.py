"""What composing images costs beside a step through the network; prints JSON.

Forward and backward of both: vertices from random neighbours, and the network for them and as many
points between them. A network with random weights takes as long as a trained one.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_machine import count, describe_machine, finish, ratios, summarise

from patchcollide.composition.parameterisations import PatchMixture
from patchcollide.config import Config
from patchcollide.config_files import builtin_config, load_config
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="section4", help="a file of configs/, by name")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--repeat", type=count, default=5)
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Measures the composition, its roughness and the network, in turns."""
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    overrides = ["network.weights=random", *arguments.set]
    config = load_config(builtin_config(arguments.config), overrides)
    network = load_network(config.network, config.seed)
    mixture = random_mixture(config, network.input_size)
    weight = torch.randn(config.optimiser.num_vertices, 3, network.input_size, network.input_size)
    steps = {
        "composition": lambda: torch.autograd.backward(mixture.images(), weight),
        "roughness": lambda: torch.autograd.backward(mixture.roughness()),
        "network": network_step(network, 2 * config.optimiser.num_vertices),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + arguments.repeat):
        for name, step in steps.items():
            mixture.parameter.grad = None
            begun = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begun)
    found = {name: summarise(all_of_it[1:]) for name, all_of_it in seconds.items()}
    shares = {name: ratios(found[name], found["network"]) for name in ("composition", "roughness")}
    return {
        "machine": describe_machine(),
        "seed": config.seed,
        "network": network.full_name,
        "parameters": mixture.parameter.numel(),
        "seconds": found,
        "share_of_network": shares,
        "table": table(found, shares),
    }


def table(found: dict[str, dict[str, Any]], shares: dict[str, dict[str, float]]) -> list[str]:
    """Returns Markdown: a line each for what was measured."""
    lines = [
        "| | best, s | median, s | of the network's best | of its median |",
        "|---|---|---|---|---|",
    ]
    for name, seconds in found.items():
        share = shares.get(name)
        cells = [f"{100 * share[key]:.0f} %" if share else "-" for key in ("best", "median")]
        lines.append(
            f"| {name} | {seconds['best']:.3f} | {seconds['median']:.3f} | {' | '.join(cells)} |"
        )
    return lines


def random_mixture(config: Config, size: int) -> PatchMixture:
    """Returns compositions of random neighbours, in the geometry of the settings."""
    grid = config.grid.with_stride(config.retrieval.query_stride_px)
    margin = config.composition.margin_px
    side = grid.window_size + 2 * margin
    k = config.composition.neighbours or config.retrieval.k
    rng = np.random.default_rng(config.seed)
    return PatchMixture(
        rng.integers(0, 256, (grid.num_positions, k, side, side, 3), dtype=np.uint8),
        grid,
        margin=margin,
        num_vertices=config.optimiser.num_vertices,
        coefficient_size=config.composition.coefficient_size,
        output_size=size,
        noise=config.optimiser.start_noise,
        generator=torch.Generator().manual_seed(config.seed),
    )


def network_step(network: CollisionNetwork, num_images: int) -> Callable[[], None]:
    """Returns a pass of random images forward and back."""
    images = torch.rand(num_images, 3, network.input_size, network.input_size)
    images.requires_grad_()
    return lambda: torch.autograd.backward(network(images).pre_activation.square().sum())


if __name__ == "__main__":
    finish(main)
