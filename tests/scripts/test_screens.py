"""Pictures of pages beside the results are of today's pages, and show nothing wrong."""

import json

from results import RESULTS
from screens import SCHEMES, SCREENS, SIZES, screens_digest

from patchcollide import explorer
from patchcollide.io.provenance import file_digest

HOW = "Make them again: `scripts/demo`, then the two commands of `scripts/screens.py`."
KEPT = json.loads((RESULTS / "pages.json").read_text(encoding="utf-8"))["document"]


def test_screens_are_not_older_than_what_they_show():
    assert KEPT["drawing"] == screens_digest(), HOW


def test_screens_are_those_that_the_script_made():
    names = {path.name for path in SCREENS.iterdir()}
    assert KEPT["pictures"] == {name: file_digest(SCREENS / name) for name in names}, HOW


def test_every_page_is_shown_wide_and_narrow_light_and_dark_with_nothing_wrong():
    pages = ("report", "explorer", "audit", "tables")
    ways = [(page, width, scheme) for page in pages for width, _ in SIZES for scheme in SCHEMES]
    assert [(row["page"], row["width"], row["colours"]) for row in KEPT["pages"]] == ways
    assert set(KEPT["pictures"]) == {"{}-{}-{}.webp".format(*way) for way in ways}
    for row in KEPT["pages"]:
        assert (row["faults"], row["overlaps"], row["too_wide"]) == (0, 0, 0), row


def test_screens_of_pages_that_look_otherwise_have_another_digest(monkeypatch, tmp_path):
    before = screens_digest()
    (tmp_path / "explorer.css").write_text("a {}")
    monkeypatch.setattr(explorer, "__file__", str(tmp_path / "__init__.py"))
    assert screens_digest() != before
