"""Reproducing tables, as people do it: small rows, a small network, and what can go wrong."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.errors import DiskFullError, InterruptedWorkError
from patchcollide.images.pictures import write_png
from patchcollide.runs import collide
from tests.conftest import SMALL
from tests.helpers.pages import Page

SETTINGS = " ".join(f"--set {override}" for override in (*SMALL, "optimiser.num_vertices=2"))
ENCODING = '"encoding-type": "patchcollide-reproduction", "encoding-version": "1"'
HOSTILE = "<script>alert('no')</script> | `{{ 7 * 7 }}` _x_"


class Paper:
    """A folder with rows, two pictures and images, in which tables are reproduced."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self.rows, self.out = folder, folder / "rows", folder / "out"
        self.rows.mkdir()
        rng = np.random.default_rng(5)
        for name in ("source", "target"):
            square = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
            write_png(folder / f"{name}.png", square)
        pair = f"--source {folder}/source.png --target {folder}/target.png"
        self.index = f"index {images} {SETTINGS} --out {{store}}"
        self.pixels = f"collide --pixels {pair} {SETTINGS} --out {{out}}"
        self.patches = f"collide {pair} --store {{store}} {SETTINGS} --out {{out}}"

    def write(self, name, commands=None, *, title="A row", table="table4", more="", **metrics):
        """Writes a row; metrics are texts of TOML such as ``expected = 1``."""
        text = f"table = {table!r}\ntitle = {json.dumps(title)}\n[full]\nminutes = 1\n"
        text += f"hardware = 'any'\ncommands = {json.dumps(commands or [self.pixels])}\n{more}\n"
        for metric, expected in (metrics or {"steps": "expected = 6"}).items():
            text += f"[[full.metrics]]\nname = '{metric}'\n{expected}\n"
        (self.rows / f"{name}.toml").write_text(text)

    def __call__(self, *words):
        fixed = ["reproduce", "--rows", self.rows, "--out", self.out]
        result = CliRunner().invoke(app, [*map(str, fixed), *map(str, words)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.printed, self.said = result.stdout, " ".join(result.stderr.split())
        return result.exit_code

    @property
    def results(self):
        return json.loads((self.out / "results.json").read_text())["rows"]

    def files(self, below="."):
        found = (path for path in (self.folder / below).rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.fixture
def paper(tmp_path, write_images, small_network, monkeypatch):
    monkeypatch.setattr(collide, "load_network", lambda *_: small_network)
    return Paper(tmp_path, write_images())


def test_rows_are_made_compared_and_rendered(paper):
    share = "paper = 0.9\nexpected = 0.0\ndirection = 'at least'"
    paper.write("a", steps="paper = 6", loss_drop="expected = 0\ndirection = 'at least'")
    commands = [paper.index, paper.patches]
    paper.write("b", commands, table="table6", vertex_distance_share=share)
    assert paper() == 0, paper.said
    header, *lines = paper.printed.splitlines()
    assert header.split() == ["row", "metric", "paper", "expected", "obtained", "result"]
    assert lines[0].split() == ["a", "steps", "6", "6", "(paper's)", "6", "OK"]
    assert [line.split()[-1] for line in lines[:3]] == ["OK"] * 3
    assert lines[2].startswith("b    vertex_distance_share  0.900  ≥ 0.000")
    assert lines[3] == str(paper.out / "tables.html")
    written = {path.name for path in paper.out.iterdir()}
    assert written == {"a", "b", "store", "pictures", "results.json", "tables.html", "tables.md"}
    assert " tables, reproduced</h1>" in (paper.out / "tables.html").read_text()
    assert "| metric | paper | expected |" in (paper.out / "tables.md").read_text()
    made = paper.results["b"]
    assert made["machine"]["cores"] >= 1
    assert made["versions"].keys() >= {"patchcollide", "torch"}
    assert made["seconds"] > 0
    assert made["values"]["vertex_distance_share"] > 0


def test_pixels_take_the_data_sets_distance_from_the_store_beside(paper):
    paper.write("a", [paper.index, paper.pixels], dataset_distance="paper = 1.0\ntolerance = 1e9")
    paper.write("b", dataset_distance="paper = 1.0\ntolerance = 1e9")
    assert paper() == 0
    assert paper.results["a"]["values"]["dataset_distance"] > 0
    assert "b    dataset_distance" in paper.printed
    assert "SKIPPED (the run has no store to measure its data set's distance)" in paper.printed


def test_a_number_that_is_off_fails_by_name_and_the_rest_is_still_made(paper):
    paper.write("a", steps="expected = 7", success_rate="expected = 0\ndirection = 'at least'")
    paper.write("b")
    assert paper() == 1
    assert "ReproductionError: 1 of 3 numbers are not as expected: a steps. See" in paper.said
    assert "FAIL (too low)" in paper.printed
    assert paper.results.keys() == {"a", "b"}
    assert (paper.out / "tables.html").exists()


def test_finished_rows_are_not_made_again(paper):
    paper.write("a", [paper.index, paper.patches])
    assert paper() == 0
    before, made = paper.files("out/a"), paper.results["a"]
    paper.write("a", [paper.index, paper.patches], steps="expected = 7")
    assert paper() == 1
    assert "holds this run already: nothing to do" in paper.said
    assert paper.files("out/a") == before
    after = paper.results["a"]
    assert (after["seconds"], after["machine"]) == (made["seconds"], made["machine"])
    assert after["checks"][0]["status"] == "FAIL"


def test_a_row_whose_settings_changed_fails_and_keeps_its_run(paper):
    paper.write("a")
    assert paper() == 0
    before = paper.files("out/a")
    paper.write("a", [f"{paper.pixels} --seed 1"])
    assert paper() == 1
    assert "FAIL (RunError:" in paper.printed
    assert "seed: found 0, expected 1" in paper.printed
    assert paper.files("out/a") == before


def test_a_row_that_cannot_be_made_fails_with_its_error_and_others_go_on(paper):
    paper.write("a", [f"{paper.pixels} --set objective.tightness=0 --set objective.active=1e38"])
    paper.write("b")
    assert paper() == 1
    assert "FAIL (DivergedError: The loss is inf at step 0" in paper.printed
    assert paper.results["b"]["checks"][0]["status"] == "OK"


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("colide --out {out}", "No such command 'colide'"),
        ("collide --pixls --out {out}", "No such option: --pixls"),
        ("collide --source a --out {out}", "Missing option '--target'"),
    ],
)
def test_a_command_that_does_not_exist_fails_in_a_sentence(command, part, paper):
    paper.write("a", [command])
    assert paper() == 1
    assert "FAIL (ConfigError: `patchcollide co" in paper.printed
    assert part in paper.printed


def test_what_lacks_its_data_is_skipped_and_that_is_no_failure(paper):
    more = "needs = ['imagenet']\n[full.images]\nsource = 'n1/n1_1.JPEG'"
    paper.write("a", more=more)
    assert paper() == 0
    assert "SKIPPED (no ImageNet: give --imagenet FOLDER" in paper.printed
    assert paper.results["a"]["machine"] == {}
    (paper.folder / "imagenet").mkdir()
    assert paper("--imagenet", paper.folder / "imagenet") == 0
    assert "SKIPPED (no source: " in paper.printed
    assert "n1_1.JPEG is not there)" in paper.printed
    assert not (paper.out / "a").exists()
    assert "Not made here." in (paper.out / "tables.md").read_text()


def test_data_that_was_given_but_is_not_there_is_refused(paper):
    paper.write("a")
    before = paper.files()
    assert paper("--imagenet", paper.folder / "nowhere") == 2
    assert "ImageError: --imagenet" in paper.said
    assert paper("--weights", paper.folder / "nowhere", "--dry-run") == 2
    assert "NetworkError: --weights" in paper.said
    assert paper.files() == before


def test_only_some_rows_are_made_and_the_others_results_kept(paper):
    for name, table in (("a", "table4"), ("b", "table6")):
        paper.write(name, table=table)
    assert paper("--only", "table4") == 0
    assert paper.results.keys() == {"a"}
    assert paper("--only", "b") == 0
    assert paper.results.keys() == {"a", "b"}
    assert "Polytope of a" in (paper.out / "tables.md").read_text()
    assert paper("--only", "table5") == 2
    assert "--only table5: there is no such table or row" in paper.said
    assert "There are table4, table6, a, b." in paper.said


def test_a_malformed_row_is_refused_before_any_work(paper):
    paper.write("a")
    (paper.rows / "b.toml").write_text("table = 3")
    assert paper() == 2
    assert "ConfigError:" in paper.said
    assert "b.toml: table = 3: input should be 'index', 'table2', 'table4'" in paper.said
    assert not paper.out.exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "results.json cannot be read"),
        ("[]", "should hold a JSON object"),
        ("{}", "should be 'patchcollide-reproduction' version 1, but is 'None'"),
        (f'{{{ENCODING}, "rows": 3}}', "'rows' should be an object"),
        (f'{{{ENCODING}, "rows": {{"a": {{}}}}}}', "rows.a: the setting table is missing"),
    ],
)
def test_damaged_results_are_refused_kept_and_can_be_moved_away(content, part, paper):
    paper.write("a")
    paper()
    path = paper.out / "results.json"
    path.write_text(content)
    before = paper.files()
    assert paper() == 2
    assert "RunError" in paper.said
    assert part in paper.said
    assert paper.files() == before
    path.unlink()
    assert paper() == 0
    assert "nothing to do" in paper.said


def test_a_folder_with_other_files_is_refused(paper):
    paper.write("a")
    paper.out.mkdir()
    (paper.out / "thesis.tex").write_text("years of work")
    before = paper.files()
    assert paper() == 2
    assert "holds something else than reproduced rows. Choose another --out" in paper.said
    assert paper.files() == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            InterruptedWorkError("Stopped after 3 of 6 steps."),
            "InterruptedWorkError: Stopped after",
        ),
        (DiskFullError("No space to write x."), "DiskFullError: No space to write x"),
        (KeyboardInterrupt(), "Stopped. Finished work is kept"),
    ],
)
def test_what_stops_a_row_stops_all_and_keeps_what_is_finished(error, said, paper, monkeypatch):
    def stop(*_):
        raise error

    paper.write("a")
    assert paper() == 0
    paper.write("b")
    paper.write("c")
    with monkeypatch.context() as patched:
        patched.setattr(collide, "optimise_run", stop)
        assert paper() == 1
        assert said in paper.said
        assert paper.results.keys() == {"a"}
    assert paper() == 0
    assert paper.results.keys() == {"a", "b", "c"}


def test_a_dry_run_prints_commands_that_work_and_writes_nothing(paper):
    paper.write("a", [paper.index, paper.patches])
    paper.write("b", more="needs = ['imagenet']")
    before = paper.files()
    assert paper("--dry-run") == 0
    assert paper.files() == before
    lines = paper.printed.splitlines()
    assert lines[3:5] == ["# b: A row, about 1 min", lines[4]]
    assert lines[4].startswith("# SKIPPED (no ImageNet")
    for line in lines[1:3]:
        program, *words = shlex.split(line)
        assert program == "patchcollide"
        assert CliRunner().invoke(app, words).exit_code == 0
    (paper.rows / "b.toml").unlink()
    assert paper() == 0
    assert "nothing to do" in paper.said


def test_the_rows_are_listed_with_time_hardware_and_needs(paper):
    paper.write("a", more="needs = ['imagenet', 'vgg16-weights']")
    paper.write("b", title="Another")
    assert paper("--list") == 0
    header, first, second = paper.printed.splitlines()
    assert header.split() == ["row", "table", "min", "hardware", "needs", "title"]
    assert "any       imagenet, vgg16-weights  A row" in first
    assert second.split() == ["b", "table4", "1", "any", "nothing", "Another"]
    assert not paper.out.exists()


def test_the_page_needs_nothing_else_and_shows_texts_as_texts(paper):
    paper.write("a", title=HOSTILE, steps="expected = 7")
    paper.write("b", more="needs = ['imagenet']")
    paper()
    page = Page((paper.out / "tables.html").read_text())
    assert page.references
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'" in page.html
    assert "<script>alert('no')</script> | `{{ 7 * 7 }}` _x_" in page.words
    assert "0 of 2 numbers as expected, 1 not, 1 skipped" in page.words
    # None of these numbers is the paper's: the page is called what it is.
    assert "A check on substitute data" in page.words
    assert '<th scope="col" class="number">paper</th>' not in page.html
    assert "FAIL (too low)" in page.words
    assert "patchcollide collide --pixels" in page.words
    markdown = (paper.out / "tables.md").read_text()
    assert markdown.startswith("# A check on substitute data")
    assert "| metric | expected | obtained | result |" in markdown
    assert "<script>" not in markdown
    assert "### &lt;script>alert('no')&lt;/script> \\| \\`{{ 7 \\* 7 }}\\` \\_x\\_" in markdown
    assert "![Polytope of a](pictures/a.png)" in markdown


def test_quick_rows_are_a_check_on_substitute_data_also_beside_the_papers_numbers(paper):
    paper.write("a", steps="paper = 6\nexpected = 6")
    row = paper.rows / "a.toml"
    head, variant = row.read_text().split("[full]\n")
    quick = variant.replace("full.", "quick.")
    row.write_text(f"{head}[full]\n{variant}[quick]\n{quick}")
    paper("--quick")
    page = Page((paper.out / "tables.html").read_text())
    assert "A check on substitute data" in page.words
    assert "where they stand beside, are of other data" in page.words
    # No column is empty, and what was not measured takes no room.
    assert "vertex mean L2" in page.words
    assert "images in store" not in page.words
    assert "not measured" not in page.words
    assert '<th scope="col" class="number">paper</th>' in page.html


def test_pictures_of_runs_that_are_gone_are_left_out(paper):
    paper.write("a")
    paper.write("b")
    paper()
    for path in (paper.out / "a").iterdir():
        path.unlink()
    assert paper("--only", "b") == 0
    assert "a has no picture" in paper.said
    assert "![Polytope of a]" not in (paper.out / "tables.md").read_text()
