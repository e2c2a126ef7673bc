"""What `bench_search` found, as tables and as lines of a chart."""

from typing import Any


def table(results: list[dict[str, Any]]) -> list[str]:
    """Returns Markdown: two tables a store, of what was measured and of what the peers are."""
    lines: list[str] = []
    for result in results:
        several = len(result["sources"]) > 1
        columns = [
            f"{result['num_patches']:,} patches, {result['num_queries']} queries",
            "opened or built in, s (of a core)",
            "files, or memory kept",
            "search, s (best)",
            "first time, s",
            "proven",
            f"recall@{result['k']}{_worst(result)}",
            *(["in the mean"] if several else []),
            "own memory",
        ]
        lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for name, found in {**result["engines"], **result["peers"]}.items():
            made = found.get("build_core_seconds", found.get("opening_seconds"))
            proven = f"{100 * found['certified']:.0f} %" if "certified" in found else "none"
            memory = found["memory"]["search"]["peak_anonymous_bytes"]
            mean = f"| {found['recall_mean']:.4g} " if several else ""
            lines.append(
                f"| `{name}` | {made:.3g} | {found['bytes'] / 1e9:.2f} GB "
                f"| {found['seconds']['best']:.3g} "
                f"| {found['first_seconds']:.3g} | {proven} | {found['recall']:.4g} {mean}"
                f"| {memory / 1e9:.2f} GB |"
            )
        lines += _about_peers(result)
    return lines[1:]


def growth_table(results: list[dict[str, Any]]) -> list[str]:
    """Returns Markdown of several stores: a line a store, seconds and memory of each search."""
    if len(results) < 2:
        return []
    series = series_of(results)
    columns = ["patches", *(f"`{name}`, s" for name in series)]
    columns += [f"`{name}`, own memory (planned)" for name in results[0]["engines"]]
    lines = ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for result in sorted(results, key=lambda result: result["num_patches"]):
        found = {**result["engines"], **result["peers"]}
        cells = [f"{result['num_patches']:,}"]
        cells += [f"{found[n]['seconds']['best']:.3g}" if n in found else "-" for n in series]
        for engine in result["engines"].values():
            own, planned = (
                engine["memory"]["search"]["peak_anonymous_bytes"],
                engine["planned_bytes"],
            )
            cells.append(f"{own / 1e9:.2f} GB ({planned / 1e9:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _about_peers(result: dict[str, Any]) -> list[str]:
    about = {name: found["about"] for name, found in result["peers"].items()}
    about |= {name: f"not measured: {reason}" for name, reason in result["skipped"].items()}
    # Where a peer searches with several breadths they stand behind its name.
    lines = list(
        dict.fromkeys(f"| `{n.partition(' ')[0]}` | {text} |" for n, text in about.items())
    )
    return ["", "| peer | what it is |", "|---|---|", *lines] if lines else []


def _worst(result: dict[str, Any]) -> str:
    number = len(result["sources"])
    return f", the worst of {number} sources" if number > 1 else ""


def series_of(results: list[dict[str, Any]]) -> dict[str, list[tuple[int, float, int]]]:
    """Returns, for each search, numbers of patches with its seconds and its own bytes."""
    series: dict[str, list[tuple[int, float, int]]] = {}
    for result in sorted(results, key=lambda result: result["num_patches"]):
        for name, entry in {**result["engines"], **result["peers"]}.items():
            memory = entry["memory"]["search"]["peak_anonymous_bytes"]
            point = (result["num_patches"], entry["seconds"]["best"], memory)
            series.setdefault(name, []).append(point)
    return series
