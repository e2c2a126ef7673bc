"""The numbers of a finished run, as commands print them."""

from patchcollide.cli import runs
from tests.helpers.pages import summary_of


def test_no_name_of_a_number_runs_into_it(tmp_path, monkeypatch, capsys):
    seen = {"coarse_rms": 25.0, "block_share": 0.935}
    monkeypatch.setattr("patchcollide.runs.folder.open_run", lambda path: path)
    monkeypatch.setattr(
        "patchcollide.runs.summary.read_summary", lambda _: summary_of(visibility=seen)
    )
    runs._show_run(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert "of their difference, kept by blocks 93.5\N{NARROW NO-BREAK SPACE}%" in lines
    assert "steps                             317: a validation batch collided" in lines
