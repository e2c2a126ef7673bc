"""Makes the pictures of README and guide from a finished run, as this version shows it.

Needs Chromium and the packages of ``test``; the run is the demo's, made by ``scripts/demo``. Beside
the pictures, ``pictures.json`` keeps a digest of what draws them: a test fails when they are older.

    python scripts/pictures.py runs/demo    # data/demo.png, data/report.png, data/page.png
"""

import argparse
import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from bench_machine import finish
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from patchcollide import report
from patchcollide.errors import MissingLibraryError
from patchcollide.io.files import write_json
from patchcollide.io.provenance import file_digest
from patchcollide.report.headlines import figure_title
from patchcollide.runs.folder import Run, open_run
from patchcollide.runs.report import write_report, write_run_differences
from patchcollide.runs.summary import read_summary

#: Modules of ``report`` that decide how pages and figures look.
DRAWING = ("boxes", "charts", "closeups", "figures", "front", "proofs", "sheet", "yardstick")
DATA = Path(__file__).parent.parent / "data"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDTH, _HEIGHT = 1440, 900
NAMES = ("demo.png", "report.png", "page.png")
DIGEST_FILE = "pictures.json"
#: Half way of the second leg of the tour, where two vertices are mixed in equal parts.
_PLACE = 0.135
_MOVE = "(tour, value) => {tour.value = value; tour.dispatchEvent(new Event('input'))}"


def draw_collision(run: Run, path: Path) -> None:
    """Draws source, target and vertices, with the title that the run's verdict gives a figure."""
    write_run_differences(path, run, figure_title(read_summary(run)))


def drawing_digest(*packages: ModuleType, names: Sequence[str] = DRAWING) -> str:
    """Returns a digest of what decides how pages and figures look.

    Args:
        packages: Whose templates, styles and scripts; by default the report's.
        names: Modules that count too.
    """
    known = hashlib.sha256()
    for package in packages or (report,):
        for path in sorted(Path(str(package.__file__)).parent.iterdir()):
            if path.suffix in (".css", ".j2", ".js") or path.stem in names:
                known.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return known.hexdigest()


def open_browser(playwright: Playwright) -> Browser:
    """Opens Chromium.

    Raises:
        MissingLibraryError: If it is not installed.
    """
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise MissingLibraryError(
            f"None of {', '.join(_BROWSERS)} is installed. Run `apt-get install chromium`."
        )
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


def photograph_page(run: Run, screen: Path, control: Path) -> None:
    """Draws the run's page again, and takes pictures of its first screen and of its control.

    Raises:
        MissingLibraryError: If no browser is installed.
    """
    page_file = write_report(run)
    with sync_playwright() as playwright:
        browser = open_browser(playwright)
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        page.goto(page_file.resolve().as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        _keep(page.screenshot(), screen)
        _go(page)
        _keep(page.locator("#live").screenshot(), control)
        browser.close()


def _keep(taken: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(taken)) as picture:
        picture.convert("P", palette=Image.Palette.ADAPTIVE).save(path, optimize=True)


def _go(page: Page) -> None:
    """Goes to a place of the tour, and to the pixel in the middle of the image."""
    tour = page.locator("input.tour")
    last = int(tour.get_attribute("max") or 0)
    tour.evaluate(_MOVE, str(round(_PLACE * last)))
    box = page.locator("canvas.blend").bounding_box()
    if box:
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def main() -> dict[str, str]:
    """Makes the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("--out", type=Path, default=DATA, help="where the pictures go")
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    draw_collision(run, arguments.out / "demo.png")
    photograph_page(run, arguments.out / "report.png", arguments.out / "page.png")
    pictures = {name: file_digest(arguments.out / name) for name in NAMES}
    write_json(arguments.out / DIGEST_FILE, {"drawing": drawing_digest(), "pictures": pictures})
    return {name: str(arguments.out / name) for name in NAMES}


if __name__ == "__main__":
    finish(main)
