"""The pages of audits and of the paper's tables in a real browser, on a telephone and a desk."""

import numpy as np
import pytest
from page_checks import serious_faults, texts_over_texts

from patchcollide.report.tables import PAPER_ROWS
from patchcollide.reproduction.rendering import Entry, Table, render_tables_page
from tests.audit.conftest import folder, make, network  # noqa: F401
from tests.helpers.browsing import nothing_wrong_in
from tests.helpers.pages import png_of, random_images


def tables_page(path):
    paper = PAPER_ROWS[-1]
    checks = [
        ("success_rate", "1.0", "1.0", "1.000", "OK"),
        ("vertex_distance_share", "0.255", "0.2 or more (paper's)", "0.131", "FAIL (too low)"),
        ("dataset_distance", "37538.22", "", "", "SKIPPED (there is no store of the data set)"),
    ]
    entry = Entry(
        key="table6",
        title="VGG-16 fc6, patches, a church with a cleaver",
        origin=paper.origin,
        commands=["patchcollide collide --source church.jpg --target cleaver.jpg --out table6"],
        checks=checks,
        paper=paper,
        ours=paper,
        picture=png_of(random_images(np.random.default_rng(0), 60, 400)),
        made_on="3.2 minutes on 2 cores",
    )
    path.write_text(render_tables_page([Table("Table 6", [entry, entry])]))
    return path


@pytest.fixture
def pages(make, tmp_path):  # noqa: F811
    make(tmp_path / "audit")
    return {"audit": tmp_path / "audit/report.html", "tables": tables_page(tmp_path / "t.html")}


def test_nothing_shuts_people_out(tab, pages):
    for page in pages.values():
        for width, scheme in ((390, "light"), (390, "dark"), (1440, "light"), (1440, "dark")):
            with nothing_wrong_in(tab):
                tab.set_viewport_size({"width": width, "height": 900})
                tab.emulate_media(media="screen", color_scheme=scheme)
                tab.goto(page.as_uri())
                tab.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                assert not texts_over_texts(tab)
                assert not serious_faults(tab)
