"""Takes pictures of every kind of page as this version shows it, and looks for what is wrong there.

Needs Chromium and the packages of ``test``. Report and explorer are of a finished run, the demo's;
audit and tables are made beside it, of digits that come with the libraries, unless they are there.

    python scripts/screens.py runs/demo > found.json    # data/results/pages/*.webp
    python scripts/results.py pages found.json
"""

import argparse
import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_explorer import server_of
from bench_machine import describe_machine, finish
from page_checks import serious_faults, texts_over_texts
from pictures import DRAWING, drawing_digest, open_browser
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from results import RESULTS

from patchcollide import audit, explorer, report, reproduction
from patchcollide.audit.files import open_audit
from patchcollide.audit.page import write_audit_page
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.io.provenance import file_digest
from patchcollide.runs.folder import open_run
from patchcollide.runs.report import write_report

SCREENS = RESULTS / "pages"
SIZES = ((1440, 900), (390, 844))
SCHEMES = ("light", "dark")
_READY = {"report": "html[data-ready=yes]", "explorer": "#live[data-answers]"}
_BESIDE = ("tables", "digits", "audit")
_NUM_DIGITS = 60
_ROWS = ("table2_row2", "table2_with_exact")
_QUALITY = 75
_COLUMNS = ("page", "width", "colours", "serious faults (axe)", "texts on texts", "too wide by")


def screens_digest() -> str:
    """Returns a digest of all that decides how pages look."""
    names = (*DRAWING, "page", "rendering")
    return drawing_digest(report, explorer, audit, reproduction, names=names)


@contextlib.contextmanager
def pages_of(run: Path) -> Iterator[dict[str, str]]:
    """Yields the addresses of a page of each kind."""
    tables, digits, audited = (run.with_name(f"{run.name}-{n}") for n in _BESIDE)
    _patchcollide("reproduce", "--quick", *(f"--only={row}" for row in _ROWS), "--out", tables)
    if not audited.exists():
        write_digits(digits, read_digits(None, "test"), _NUM_DIGITS)
        _patchcollide("audit", digits, "--network", "mlp", "--out", audited)
    with server_of(run) as (address, _):
        yield {
            "report": write_report(open_run(run)).resolve().as_uri(),
            "explorer": address,
            "audit": write_audit_page(*open_audit(audited)).resolve().as_uri(),
            "tables": (tables / "tables.html").resolve().as_uri(),
        }


def _patchcollide(*words: object) -> None:
    command = [sys.executable, "-m", "patchcollide", *map(str, words)]
    subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603


def look_at(browser: Browser, name: str, address: str, out: Path) -> Iterator[dict[str, Any]]:
    """Takes pictures of a page's first screen, and yields what is wrong with all of it."""
    for width, height in SIZES:
        for scheme in SCHEMES:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page.goto(address)
            page.wait_for_selector(_READY.get(name, "h1"))
            with Image.open(io.BytesIO(page.screenshot())) as picture:
                file = out / f"{name}-{width}-{scheme}.webp"
                picture.convert("RGB").save(file, quality=_QUALITY, method=6)
            page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
            yield {
                "page": name,
                "width": width,
                "colours": scheme,
                "faults": len(serious_faults(page)),
                "overlaps": len(texts_over_texts(page)),
                "too_wide": page.evaluate("document.documentElement.scrollWidth") - width,
            }
            page.close()


def main() -> dict[str, Any]:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("--out", type=Path, default=SCREENS, help="where the pictures go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with pages_of(arguments.run) as pages, sync_playwright() as playwright:
        browser = open_browser(playwright)
        found = [
            row
            for name, address in pages.items()
            for row in look_at(browser, name, address, arguments.out)
        ]
        browser.close()
    rows = [" | ".join(map(str, row.values())) for row in found]
    return {
        "machine": describe_machine(),
        "drawing": screens_digest(),
        "pictures": {path.name: file_digest(path) for path in sorted(arguments.out.glob("*.webp"))},
        "pages": found,
        "table": [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
        + [f"| {row} |" for row in rows],
    }


if __name__ == "__main__":
    finish(main)
