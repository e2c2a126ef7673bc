"""What stores of several sizes cost on this machine, as `patchcollide plan` says; prints JSON.

Nothing is stored: some seconds are measured for each size, the rest is the planner's formulas.

    python scripts/bench_costs.py photos --images 128066 1281167 3460208 > costs.json
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench_machine import count, describe_machine, finish

from patchcollide.config_files import load_config
from patchcollide.formats import format_seconds, format_size
from patchcollide.retrieval.planning.footprint import STAGES
from patchcollide.retrieval.planning.planner import Plan, plan

_COLUMNS = [
    "images",
    "patches",
    "store, with sums of blocks",
    "index",
    "disk while merging",
    "memory",
    "extraction",
    "index, merging",
    "`exact`",
    "`certified`",
    "`ann`",
]


def main() -> dict[str, Any]:
    """Plans for every size; returns the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", type=Path, help="images like those that would be stored")
    parser.add_argument("--images", type=count, nargs="+", default=[128_066, 1_281_167])
    arguments = parser.parse_args()
    config, out = load_config(), Path()
    plans = [plan(config, arguments.photos, out, num_images=number) for number in arguments.images]
    return {
        "benchmark": "costs",
        "machine": describe_machine(),
        # Whether they would fit here is not what is asked.
        "plans": [asdict(replace(made, problem="")) for made in plans],
        "table": [
            f"| {' | '.join(_COLUMNS)} |",
            "|---" * len(_COLUMNS) + "|",
            *(f"| {' | '.join(row(made))} |" for made in plans),
        ],
    }


def row(made: Plan) -> list[str]:
    """Returns the cells of a size."""
    largest = max(STAGES, key=lambda name: made.stages[name].peak_bytes)
    peak = format_size(made.stages[largest].peak_bytes)
    indexing = sum(made.stages[name].seconds for name in STAGES if name != "extraction")
    searches = [made.engines[name].seconds for name in ("exact", "certified", "ann")]
    return [
        f"{made.num_images:,}",
        f"{made.num_patches / 1e6:,.0f} million",
        *map(format_size, (made.store_bytes, made.index_bytes, made.disk_bytes)),
        f"{peak} ({largest})",
        format_seconds(made.stages["extraction"].seconds),
        format_seconds(indexing),
        *map(format_seconds, searches),
    ]


if __name__ == "__main__":
    finish(main)
