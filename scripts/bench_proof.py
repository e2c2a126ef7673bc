"""Measures what is proved of hulls of digits: class and features, with and without rounding.

Prints one JSON document, with Markdown tables under ``table``: one proof for each network and
layer, of five vertices found by a search within a bound on features; with ``--hulls``, the share of
many such hulls that is proved, with ``--proved`` also of hulls that are made with
``objective.proved``; with ``--runs``, the worst image found in finished runs beside the worst of
their random samples. Networks are trained first: the paper's MLP and LeNet-5, a small VGG
with max pooling, and a small residual network with batch norm. What was trained and what was
measured is kept in OUT: stopped, the same command goes on.

    python scripts/bench_proof.py --data mnist --out proofs --hulls 100
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_machine import count, describe_machine, finish
from trained_networks import LAYERS, network_of

from patchcollide.api import find_polytope
from patchcollide.errors import RunError
from patchcollide.images.digits import Digits, read_digits
from patchcollide.io.files import read_json, write_json, write_text
from patchcollide.polytope import Polytope
from patchcollide.progress import track
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.hulls import Claim, Prover
from patchcollide.proofs.results import HullProof
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary

MANY = {"mlp": "act1", "lenet5": "act4"}
"""The layers of which many hulls are measured."""

_HEADER = (
    "network",
    "layer",
    "rounded",
    "result",
    "margin found",
    "proved",
    "of it",
    "tau found",
    "proved",
    "by",
    "simplices",
    "s",
)
_WORST = (
    "run",
    "samples",
    "smallest probability of them",
    "worst found",
    "its margin",
    "worst found once rounded",
    "its margin",
    "short of 1",
)
_SHARES = (
    "network",
    "layer",
    "made to be proved",
    "hulls",
    "rounded",
    "class proved",
    "features too",
    "s each, median",
)


def pairs(digits: Digits, wanted: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pictures of two different digits each: a source and a target."""
    rng = np.random.default_rng([seed, 20])
    for _ in range(wanted):
        first, second = rng.choice(len(digits), 2, replace=False)
        while digits.labels[first] == digits.labels[second]:
            second = rng.integers(len(digits))
        yield digits.images[first], digits.images[second]


def prove(
    polytope: Polytope, rounding: bool, arguments: argparse.Namespace
) -> tuple[HullProof, float]:
    """Proves what can be proved of a hull within the seconds given, and says what it took."""
    clock = time.process_time if arguments.processor_time else time.perf_counter
    begun = clock()
    network, vertices, target = polytope.network, polytope.vertices, polytope.target
    bounds = HullBounds.of(network, vertices, target, rounding=rounding)
    claim = Claim(
        arguments.gamma,
        rounding,
        arguments.seconds,
        seed=arguments.seed,
        parts=False,
        clock=clock,
    )
    return Prover(bounds, claim).run(), clock() - begun


def row(name: str, layer: str, proof: HullProof, seconds: float) -> Sequence[str]:
    """Returns what a table says of a proof."""
    margin, tau = proof["margin"], proof["tau"]
    proved = margin["proved"] or -np.inf
    return (
        name,
        layer,
        "yes" if proof["rounding"] else "no",
        result_of(proof),
        f"{margin['found']:.2f}",
        f"{proved:.2f}",
        f"{proved / margin['found']:.0%}" if proved > 0 else "-",
        f"{tau['found']:.4f}",
        f"{tau['proved']:.4f}" if tau["proved"] is not None else "-",
        f"{margin['method']}, {tau['method']}",
        f"{margin['cells']}, {tau['cells']}",
        f"{seconds:.1f}",
    )


def result_of(proof: HullProof) -> str:
    """Returns what is proved: the class, and the features within the bound as well."""
    if proof["result"] != "open":
        return proof["result"]
    return "class proved" if proof["share_proved"] == 1 else "open"


def kept(arguments: argparse.Namespace, name: str, measure: Callable[[], Any]) -> Any:
    """Returns what was measured under a name, by measuring it once."""
    path = arguments.out / "measured" / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"found": measure()})
    return read_json(path, error=RunError)["found"]


def proofs_of(
    arguments: argparse.Namespace,
    name: str,
    layer: str,
    pictures: Sequence[np.ndarray],
    proved: bool = False,
) -> list[dict[str, Any]]:
    """Finds a hull and proves what can be proved of it, with and without rounding."""
    network = network_of(name, arguments).at_layer(layer)
    polytope = find_polytope(
        network,
        layer,
        *pictures,
        tightness=arguments.gamma,
        settings={"objective.proved": True} if proved else (),
    )
    found = []
    for rounding in (False, True):
        proof, seconds = prove(polytope, rounding, arguments)
        about = {"network": name, "layer": layer, "made_proved": proved}
        found.append({**about, "proof": proof, "seconds": seconds})
    return found


def measure_layers(arguments: argparse.Namespace, test: Digits) -> list[dict[str, Any]]:
    """Proves one hull for each network and layer, with and without rounding."""
    (pair,) = pairs(test, 1, arguments.seed)
    found = []
    for name in arguments.networks:
        for layer in LAYERS[name]:
            measure = functools.partial(proofs_of, arguments, name, layer, pair)
            found += kept(arguments, f"{name}-{layer}-{arguments.seconds:g}s", measure)
    return found


def measure_hulls(
    arguments: argparse.Namespace, test: Digits, wanted: int, proved: bool = False
) -> list[dict[str, Any]]:
    """Proves many hulls of one layer of some networks, each in few seconds."""
    found = []
    several = list(pairs(test, wanted, arguments.seed + 1))
    shorter = argparse.Namespace(**{**vars(arguments), "seconds": arguments.seconds_each})
    kind = "proved" if proved else "hull"
    for name in arguments.many if several else ():
        for number, pair in track(enumerate(several), f"Hulls of {name}", len(several)):
            measure = functools.partial(proofs_of, shorter, name, MANY[name], pair, proved)
            found += kept(shorter, f"{name}-{kind}-{number}-{shorter.seconds:g}s", measure)
    return found


def shares(hulls: Sequence[dict[str, Any]]) -> Iterator[Sequence[str]]:
    """Yields, for each network, which share of hulls is proved."""
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in hulls:
        kind = (each["network"], each["layer"], each["made_proved"], each["proof"]["rounding"])
        kinds.setdefault(kind, []).append(each)
    for (name, layer, proved, rounding), found in kinds.items():
        proofs = [each["proof"] for each in found]
        yield (
            name,
            layer,
            "yes" if proved else "no",
            str(len(proofs)),
            "yes" if rounding else "no",
            f"{np.mean([proof['share_proved'] == 1 for proof in proofs]):.0%}",
            f"{np.mean([proof['result'] == 'proved' for proof in proofs]):.0%}",
            f"{np.median([each['seconds'] for each in found]):.2f}",
        )


def worst_rows(runs: Sequence[Path]) -> Iterator[Sequence[str]]:
    """Yields the worst image found in finished runs, beside the worst of random samples."""
    for folder in runs:
        summary = read_summary(open_run(folder))
        worst = summary["worst_found"]
        # Runs of older versions have no rounded one.
        rounded, sampled = worst.get("rounded"), worst["sampled_probability"]
        found = rounded["probability"] if rounded else worst["probability"]
        yield (
            f"{folder.parent.name}/{folder.name}",
            str(summary["num_samples"]),
            f"{sampled:.5f}",
            f"{worst['probability']:.5f}",
            f"{worst['margin']:.2f}",
            f"{found:.5f}" if rounded else "-",
            f"{rounded['margin']:.2f}" if rounded else "-",
            f"{(1 - found) / max(1 - sampled, 1e-12):.2f} times as much",
        )


def table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of what is trained")
    parser.add_argument("--data", type=Path, help="folder of MNIST's files")
    parser.add_argument("--networks", nargs="+", choices=[*LAYERS], default=[*LAYERS])
    parser.add_argument("--hulls", type=int, default=0, help="how many of one layer to prove too")
    parser.add_argument("--proved", type=int, default=0, help="how many made to be proved, too")
    parser.add_argument("--many", nargs="+", choices=[*MANY], default=[*MANY], help="of which")
    parser.add_argument("--seconds-each", type=float, default=1.0, help="to refine each of these")
    parser.add_argument("--gamma", type=float, default=0.1, help="bound on features")
    parser.add_argument("--seconds", type=float, default=10.0, help="to refine each proof")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="seconds are those that the processor works for this: for machines that do more",
    )
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="finished runs to compare")
    parser.add_argument("--epochs", type=count, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    test = read_digits(arguments.data, "test")
    layers = measure_layers(arguments, test)
    hulls = measure_hulls(arguments, test, arguments.hulls)
    hulls += measure_hulls(arguments, test, arguments.proved, proved=True)
    rows = (row(each["network"], each["layer"], each["proof"], each["seconds"]) for each in layers)
    lines = [*table(_HEADER, rows), "", *(table(_SHARES, shares(hulls)) if hulls else [])]
    if arguments.runs:
        lines += ["", *table(_WORST, worst_rows(arguments.runs))]
    write_text(arguments.out / "table.md", "\n".join(lines) + "\n")
    return {
        "machine": describe_machine(),
        "data": test.name,
        "seed": arguments.seed,
        "processor_time": arguments.processor_time,
        "layers": layers,
        "hulls": [{**each, "proof": {**each["proof"], "sentence": ""}} for each in hulls],
        "table": lines,
    }


if __name__ == "__main__":
    finish(main)
