"""What work tells of itself in a file of JSON."""

import json
from pathlib import Path
from typing import Any


def records(path: Path) -> list[dict[str, Any]]:
    """Returns all objects of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def last_of(path: Path, label: str) -> dict[str, Any]:
    """Returns the last that was told of a piece of work; all of it was done."""
    told = [record for record in records(path) if record.get("label") == label]
    assert told[-1]["done"] == told[-1]["total"] > 0
    assert told[-1]["seconds_left"] == 0
    assert {"time", "step"} < told[-1].keys()
    return told[-1]
