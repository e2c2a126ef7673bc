"""Audits that were stopped go on, and records that do not fit are refused."""

import json
import re
import signal
from typing import Any

import pytest

from patchcollide.audit import audit
from patchcollide.audit.files import RecordFile
from patchcollide.audit.sizes import measure_polytope
from patchcollide.errors import InterruptedWorkError, RunError
from patchcollide.io.files import write_json


def without_time(found):
    rows = [
        {key: value for key, value in row.items() if key != "seconds"} for row in found["images"]
    ]
    return {**found, "images": rows, "seconds": None, "command": None}


@pytest.mark.parametrize("stopped_at", [1, 4, 10])
def test_an_audit_stops_between_images_and_ends_when_asked_at_the_last(
    make, tmp_path, monkeypatch, stopped_at
):
    whole = make(tmp_path / "whole")
    measured: list[Any] = []

    def signalled(*inputs):
        measured.append(None)
        if len(measured) == stopped_at:
            signal.raise_signal(signal.SIGTERM)
        return measure_polytope(*inputs)

    monkeypatch.setattr(audit, "measure_polytope", signalled)
    if stopped_at < 10:
        with pytest.raises(InterruptedWorkError, match=rf"after {stopped_at} of 10 images\. Run"):
            make(tmp_path / "stopped")
        assert len(measured) == stopped_at
    assert without_time(make(tmp_path / "stopped")) == without_time(whole)
    assert len(measured) == 10


@pytest.mark.parametrize("method", ["exact", "search"])
def test_a_stopped_audit_goes_on_and_equals_one_that_was_not(make, tmp_path, monkeypatch, method):
    way = f"audit.method={method}"
    whole = make(tmp_path / "whole", way)
    assert whole["method"] == method
    measured: list[Any] = []

    def stop_at_the_fifth(*inputs):
        measured.append(inputs)
        if len(measured) == 5:
            raise InterruptedWorkError("Stopped after 3 of 5 steps; nothing was kept.")
        return measure_polytope(*inputs)

    monkeypatch.setattr(audit, "measure_polytope", stop_at_the_fifth)
    with pytest.raises(InterruptedWorkError, match=r"after 4 of 10 images\. Run the same"):
        make(tmp_path / "stopped", way)
    partial = tmp_path / "stopped.partial"
    # As if the process had been killed while it wrote.
    with (partial / "records.jsonl").open("a") as file:
        file.write('{"name": "night/5.png", "si')
    stopped = make(tmp_path / "stopped", way)
    assert len(measured) == 5 + 6
    assert not partial.exists()
    assert without_time(stopped) == without_time(whole)
    for file in (tmp_path / "whole").rglob("*"):
        other = tmp_path / "stopped" / file.relative_to(tmp_path / "whole")
        if file.suffix in {".csv", ".png"}:
            assert other.read_bytes() == file.read_bytes()
        assert other.exists()
    make(tmp_path / "stopped", way)
    assert len(measured) == 5 + 6


def test_another_audit_in_the_same_place_is_refused(make, tmp_path):
    make(tmp_path / "audit")
    with pytest.raises(RunError, match=r"audit\.num_vertices: found 3, expected 4"):
        make(tmp_path / "audit", "audit.num_vertices=4")
    with pytest.raises(RunError, match=r"audit\.per_class.*; images: .* had another content"):
        make(tmp_path / "audit", "audit.per_class=2")
    # What an older version measured is not gone on with.
    about = json.loads((tmp_path / "audit" / "config.json").read_text())
    old = {**about, "fingerprint": "0" * 64, "identity": {**about["identity"]}}
    del old["identity"]["measures"]
    write_json(tmp_path / "audit" / "config.json", old)
    with pytest.raises(RunError, match=r"holds another run \(measures: found null, expected 2\)"):
        make(tmp_path / "audit")
    write_json(tmp_path / "audit" / "config.json", about)
    (tmp_path / "audit" / "audit.csv").unlink()
    with pytest.raises(RunError, match=r"no longer whole: it lacks audit\.csv"):
        make(tmp_path / "audit")


def test_a_damaged_record_is_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    for content in ('{"name": 1}\n{"na\n{"name": 2}\n', '["a"]\n', "1\n"):
        path.write_text(content)
        with pytest.raises(RunError, match=f"{re.escape(str(path))} is damaged"):
            RecordFile(path).read()
    path.write_text('{"na')
    assert RecordFile(path).read() == []
    assert path.read_text() == ""
