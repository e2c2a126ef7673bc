"""An audit's files: records that grow image by image, the finished audit, its table."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from typing_extensions import TypeIs

from patchcollide.audit.documents import Audit, Failure, Record, Row
from patchcollide.errors import RunError
from patchcollide.io.files import disk_full_explained, read_json, take_digest, written_beside
from patchcollide.io.provenance import self_digest
from patchcollide.runs.folder import AUDIT_ENCODING, Run, open_run

RECORDS_FILE = "records.jsonl"
AUDIT_FILE = "audit.json"
TABLE_FILE = "audit.csv"
PAGE_FILE = "report.html"
_COLUMNS = (
    "rank",
    "name",
    "label",
    "predicted_name",
    "probability",
    "agrees",
    "label_probability",
    "size",
    "size_share",
    "size_z",
    "label_doubt",
    "vertex_distance",
    "feature_distance_relative",
    "hull_agreement",
    "hull_probability",
    "visible_share",
    "coarse_share",
    "ssim_mean",
    "blindness",
    "active",
    "sha256",
)


def is_failure(record: Record | Failure) -> TypeIs[Failure]:
    """Says whether a record is of an image that could not be measured."""
    return "not_measured" in record


class RecordFile:
    """One JSON object a line, written as soon as it is known.

    A line that was cut off when the process was killed is dropped.

    Args:
        path: The file; made when the first record comes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Record | Failure]:
        """Returns the records, after cutting off half of one.

        Raises:
            RunError: If a line before the last is no JSON object.
        """
        if not self._path.exists():
            return []
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        try:
            records = [json.loads(line) for line in whole.splitlines()]
        except (ValueError, RecursionError) as error:
            raise RunError(self._damaged(str(error))) from error
        if not all(isinstance(record, dict) and "name" in record for record in records):
            raise RunError(self._damaged("not all lines are records"))
        for number, record in enumerate(records, start=1):
            if not take_digest(record):
                raise RunError(self._damaged(f"line {number} does not have its digest"))
        return cast("list[Record | Failure]", records)

    def append(self, record: Record | Failure) -> None:
        """Adds a record, and has it on the disk; DiskFullError if the disk is full."""
        content = json.loads(json.dumps(record, allow_nan=False))
        line = json.dumps({**content, "digest": self_digest(content)}) + "\n"
        with disk_full_explained(self._path), self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def _damaged(self, why: str) -> str:
        return (
            f"{self._path} is damaged ({why}). Remove {self._path.parent} and run the same command "
            "again."
        )


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Writes ``audit.csv``: one row an image, empty where something is not known."""
    with written_beside(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=_COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        for rank, row in enumerate(rows, start=1):
            known = {name: value for name, value in row.items() if value is not None}
            writer.writerow({"rank": rank, **known})


def open_audit(folder: Path) -> tuple[Run, Audit]:
    """Opens a finished audit.

    Returns:
        Its folder, and what ``audit.json`` holds.

    Raises:
        RunError: If there is none, or it is damaged.
    """
    run = open_run(folder, AUDIT_ENCODING)
    found = read_json(run / AUDIT_FILE, error=RunError)
    missing = {"images", "data_distance", "method", "network", "layer"} - found.keys()
    if missing:
        raise RunError(
            f"{run / AUDIT_FILE} is damaged: it lacks {', '.join(sorted(missing))}. Make the audit "
            "again."
        )
    return run, cast("Audit", found)


def require_audit_files(run: Run) -> None:
    """Raises :class:`RunError` if a finished audit's folder lacks one of its files."""
    missing = [name for name in (AUDIT_FILE, TABLE_FILE, PAGE_FILE) if not (run / name).exists()]
    if missing:
        raise RunError(
            f"{run.folder} is no longer whole: it lacks {', '.join(missing)}. Remove it and run "
            "the same command again."
        )
