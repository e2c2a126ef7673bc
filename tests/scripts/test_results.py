"""Pages of results say what their JSON files say, and benchmarks' documents become such files."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.presence import present

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "data" / "results"
PAGES = [ROOT / "README.md", *sorted(RESULTS.glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
MARKED = re.compile(r"<!-- results: .*?<!-- end -->", re.DOTALL)
DOCUMENT = {
    "measured": {"command": "python scripts/bench_a.py", "date": "2026-01-02", "commit": "abc1234"},
    "machine": {
        "processor": "A processor",
        "cores": 2,
        "threads": 1,
        "memory_bytes": 8_000_000_000,
        "gpu": None,
        "versions": {"patchcollide": "0.1.0", "python": "3.11.7", "torch": "2.14.1"},
    },
    "seed": 3,
    "table": ["| a | of \\|P\\| |", "|---|---|", "| 1 | 2 % |", "", "| b |", "|---|", "| x |"],
}


@pytest.fixture
def results(script):
    return script("results")


@each_page
def test_what_is_measured_stands_in_a_page_as_its_file_has_it(page, results):
    text = page.read_text(encoding="utf-8")
    assert text == results.written(text), "Run `python scripts/results.py`."


@each_page
def test_no_table_of_results_is_typed(page):
    text = page.read_text(encoding="utf-8")
    if page.parent == ROOT:
        text = text.split("## Results")[1].split("\n## ")[0]
    if page != RESULTS / "README.md":
        assert not re.search(r"^\|", MARKED.sub("", text), re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.md"])
def test_each_page_of_results_says_how_it_was_measured(page):
    text = page.read_text(encoding="utf-8")
    assert f"<!-- results: {page.stem}, measured -->" in text
    labels = set(re.findall(r"^- \*\*([\w ]+):\*\*", text, re.MULTILINE))
    assert labels & {"Measured", "Computed"}
    assert labels & {"Command", "Commands"}
    assert labels & {"Seed", "Seeds"}
    assert labels & {"Versions"}


def test_each_file_of_results_is_shown_by_a_page():
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    files = {path.stem for path in RESULTS.glob("*.json")}
    assert files == set(re.findall(r"<!-- results: ([\w-]+),", shown))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_results_have_one_shape(path, results):
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == results.dumped(content)
    assert content.keys() in ({"measured", "tables"}, {"measured", "tables", "document"})
    assert all(isinstance(line, str) for line in content["measured"].values())
    for table in content["tables"]:
        assert table.keys() == {"columns", "rows"}
        assert all(isinstance(cell, str) for row in table["rows"] for cell in row)
        results.table_lines(table)
    if "document" in content:
        assert content["tables"] == results.content_of(content["document"])["tables"]
    else:
        assert "Figures" in content["measured"]


def test_figures_of_the_readme_are_those_of_the_pages_it_names():
    overview = json.loads((RESULTS / "overview.json").read_text(encoding="utf-8"))
    named = [row for table in overview["tables"] for row in table["rows"] if row[-1]]
    assert named
    for *cells, link in named:
        page = (ROOT / present(re.search(r"\((.*)\)", link))[1]).read_text(encoding="utf-8")
        for figure in re.findall(r"\d+\.\d+", " ".join(cells)):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", page), (figure, link)


def test_a_document_becomes_a_page(results, tmp_path):
    content = results.content_of(DOCUMENT)
    assert json.loads(results.dumped(content)) == content
    (tmp_path / "a.json").write_text(results.dumped(content))
    page = "# A\n\n<!-- results: a, measured -->\n<!-- end -->\n\ntext\n\n"
    page += "<!-- results: a, table 2 -->\nold\n<!-- end -->\n"
    page += "<!-- results: a, table 1 -->\n<!-- end -->"
    found = results.written(page, tmp_path)
    assert "- **Measured:** at commit `abc1234`, version 0.1.0, on 2026-01-02.\n" in found
    assert "- **Command:** `python scripts/bench_a.py`\n- **Seed:** 3.\n" in found
    assert "- **Machine:** A processor, 2 cores, 1 threads, 8 GB, no GPU.\n" in found
    assert "- **Versions:** python 3.11.7, torch 2.14.1.\n" in found
    assert "table 2 -->\n\n| b |\n|---|\n| x |\n\n<!-- end -->\n<!-- results: a, table 1" in found
    assert "\n| a | of \\|P\\| |\n|---|---|\n| 1 | 2 % |\n" in found
    assert "\n\ntext\n\n" in found
    assert "old" not in found
    assert results.written(found, tmp_path) == found


@pytest.mark.parametrize(
    ("marker", "message"),
    [("b, table 1", "names b, but there is no .*b.json"), ("a, table 3", "table 3, but .* has 2")],
)
def test_a_marker_without_its_figures_is_refused(marker, message, results, tmp_path):
    (tmp_path / "a.json").write_text(results.dumped(results.content_of(DOCUMENT)))
    with pytest.raises(ValueError, match=message):
        results.written(f"<!-- results: {marker} -->\n<!-- end -->", tmp_path)


def test_a_row_that_lacks_a_cell_is_refused(results):
    with pytest.raises(ValueError, match="2 columns, but 1 cells: "):
        results.table_lines({"columns": ["a", "b"], "rows": [["1"]]})


def test_a_result_is_taken_over_into_its_page(results, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "data" / "results"
    folder.mkdir(parents=True)
    (tmp_path / "README.md").write_text("# R\n")
    (folder / "a.md").write_text("# A\n\n<!-- results: a, table 2 -->\n<!-- end -->\n")
    (tmp_path / "found.json").write_text(json.dumps(DOCUMENT))
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", folder)
    monkeypatch.setattr("sys.argv", ["results.py", "a", str(tmp_path / "found.json")])
    results.main()
    assert capsys.readouterr().out == "data/results/a.md\n"
    assert "| x |" in (folder / "a.md").read_text()
    assert json.loads((folder / "a.json").read_text())["document"] == DOCUMENT


def test_tables_that_a_command_wrote_are_taken_over(results, tmp_path, monkeypatch):
    (tmp_path / "found.md").write_text("# T\n\n| a |\n|---|\n| 1 |\n")
    (tmp_path / "README.md").write_text("# R\n")
    (tmp_path / "t.md").write_text("<!-- results: t, measured -->\n<!-- end -->\n")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    words = ["results.py", "t", str(tmp_path / "found.md"), "--command", "patchcollide transfer x"]
    monkeypatch.setattr("sys.argv", words)
    results.main()
    assert "- **Command:** `patchcollide transfer x`" in (tmp_path / "t.md").read_text()
    (table,) = json.loads((tmp_path / "t.json").read_text())["tables"]
    assert table == {"columns": ["a"], "rows": [["1"]]}
