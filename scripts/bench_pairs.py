"""Makes pixel and patch polytopes for pairs of photographs, and measures each.

Prints one JSON document. The photographs that the network is surest of are paired in a ring, each
with the next: the one lends its look, the next its features. Finished runs are not made again.

    python scripts/bench_pairs.py photos --out pairs
    python scripts/bench_pairs.py photos --out pairs --pairs 1 --engines ann exact
"""

import argparse
from pathlib import Path
from typing import Any

from bench_machine import count, describe_machine, finish

from patchcollide import pipeline
from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import ImageError, InputError
from patchcollide.evaluation.dataset import dataset_distance
from patchcollide.images.pictures import read_square
from patchcollide.images.sources import find_images
from patchcollide.networks.loading import load_network
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary
from patchcollide.store.reader import open_store


def find_pairs(config: Config, folder: Path, wanted: int) -> list[tuple[Path, Path]]:
    """Returns sources and targets: the surest photographs in a ring, neighbours of one class apart.

    Raises:
        ImageError: If there are not enough photographs of different classes.
    """
    network = load_network(config.network, config.seed)
    classified = []
    for file in find_images(folder).files:
        label, _, probability = network.top(read_square(config, file.path, network.input_size))
        classified.append((probability, label, file.path))
    classified.sort(key=lambda found: -found[0])
    for size in range(wanted, len(classified) + 1):
        ring = classified[:size]
        pairs = [
            (first[2], second[2])
            for first, second in zip(ring, ring[1:] + ring[:1], strict=True)
            if first[1] != second[1]
        ]
        if len(pairs) >= wanted:
            return pairs[:wanted]
    raise ImageError(
        f"{folder} holds {len(classified)} images, which make fewer than {wanted} pairs of "
        "different classes. Ask for fewer --pairs, or give more photographs."
    )


def measure(
    config: Config, pair: tuple[Path, Path], store: Path, out: Path, kind: str, distance: float
) -> dict[str, Any]:
    """Makes a polytope, unless it is there, and returns its numbers."""
    source, target = pair
    folder = out / f"{source.stem}-{target.stem}-{kind}"
    place = None if kind == "pixels" else store
    pipeline.collide(config, source, target, folder, place)
    run = open_run(folder)
    summary = read_summary(run)
    hull, close = summary["tightness"]["hull"], summary["closeness"]
    return {
        "source": f"{source.name}, {summary['source_class_name']}",
        "target": f"{target.name}, {summary['target_class_name']}",
        "kind": kind,
        "target_probability": summary["target_probability"],
        "success_rate": summary["success_rate"],
        "probability_share": summary["sample_probability_mean"] / summary["target_probability"],
        "vertex_distance_mean": summary["vertex_distance_mean"],
        "distance_share": summary["vertex_distance_mean"] / distance,
        "verdict": summary["tightness"]["verdict"],
        "tau_mean": hull["tau_mean"],
        "tau_max": hull["tau_max"],
        "coarse_share": summary["visibility"]["block_share"],
        "source_distance_share": close["distance_mean"] / distance,
        "source_ssim": close["ssim_mean"],
        "source_coarse_share": close["block_share"],
        "steps": summary["steps"],
        "seconds": sum(summary["seconds"].values()),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the worst of each number over the rows."""
    worst = {
        f"{name}_min": min(row[name] for row in rows)
        for name in ("success_rate", "probability_share", "distance_share")
    }
    return worst | {f"{name}_max": max(row[name] for row in rows) for name in ("steps", "seconds")}


def table(results: dict[str, Any]) -> list[str]:
    """Returns Markdown: a line a kind, each number from the least to the most of its runs."""
    columns = {
        "target_probability": ("p target", 1, "{:.2f} to {:.2f}"),
        "success_rate": ("target's class", 100, "{:.1f} to {:.1f} %"),
        "probability_share": ("p samples, of the target's", 1, "{:.3f} to {:.3f}"),
        "vertex_distance_mean": ("vertex L2", 1, "{:.0f} to {:.0f}"),
        "distance_share": ("of the data set's", 100, "{:.1f} to {:.1f} %"),
        "tau_mean": ("tau mean", 1, "{:.3f} to {:.3f}"),
        "tau_max": ("tau max", 1, "{:.3f} to {:.3f}"),
        "coarse_share": ("in coarse detail", 100, "{:.0f} to {:.0f} %"),
        "source_distance_share": ("from the source", 100, "{:.0f} to {:.0f} %"),
        "source_ssim": ("SSIM to the source", 1, "{:.2f} to {:.2f}"),
        "source_coarse_share": ("of that, in coarse detail", 100, "{:.0f} to {:.0f} %"),
        "steps": ("steps", 1, "{:.0f} to {:.0f}"),
        "seconds": ("seconds", 1, "{:.0f} to {:.0f}"),
    }
    lines = [
        f"| | pairs | {' | '.join(title for title, _, _ in columns.values())} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for name, found in results.items():
        cells = [name, str(len(found["runs"]))]
        for key, (_, factor, form) in columns.items():
            values = [factor * run[key] for run in found["runs"]]
            cells.append(form.format(min(values), max(values)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def pair_table(results: dict[str, Any]) -> list[str]:
    """Returns Markdown: a line a run, of what its vertices and samples are like."""
    titles = "source, target | by | target's class | tau mean, max | apart | in coarse detail"
    lines = [f"| {titles} | from the source | SSIM to it | steps | seconds |", "|---" * 10 + "|"]
    for name, found in results.items():
        for run in found["runs"]:
            cells = [
                " with ".join(run[key].split(", ", 1)[-1] for key in ("source", "target")),
                name,
                f"{100 * run['success_rate']:.1f} %",
                f"{run['tau_mean']:.3f}, {run['tau_max']:.3f}",
                *(
                    f"{100 * run[key]:.0f} %"
                    for key in ("distance_share", "coarse_share", "source_distance_share")
                ),
                f"{run['source_ssim']:.2f}",
                str(run["steps"]),
                f"{run['seconds']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=count, default=10)
    parser.add_argument("--kinds", nargs="+", choices=["patches", "pixels"])
    parser.add_argument("--engines", nargs="+", default=["ann"], help="to find patches with")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    config = load_config(overrides=arguments.set)
    store = pipeline.index(config, arguments.photographs, arguments.out / "store")
    pairs = find_pairs(config, arguments.photographs, arguments.pairs)
    distance = dataset_distance(
        open_store(config, store),
        config.evaluation.dataset_pairs,
        config.seed,
        size=config.images.size_px,
    )
    if distance is None:
        raise InputError(
            f"{arguments.photographs} holds one readable photograph, but a distance needs two."
        )
    results: dict[str, Any] = {}
    for kind in arguments.kinds or ["patches", "pixels"]:
        for engine in arguments.engines if kind == "patches" else arguments.engines[:1]:
            settings = load_config(overrides=[*arguments.set, f"retrieval.engine={engine}"])
            out = arguments.out / engine
            rows = [measure(settings, pair, store, out, kind, distance) for pair in pairs]
            name = kind if kind == "pixels" else f"{kind}, {engine}"
            results[name] = {"worst": summarise(rows), "runs": rows}
    return {
        "machine": describe_machine(),
        "seed": config.seed,
        "dataset_distance_mean": distance,
        "results": results,
        "table": [*table(results), "", *pair_table(results)],
    }


if __name__ == "__main__":
    finish(main)
