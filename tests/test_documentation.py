"""Pages of Markdown: links lead somewhere, commands and options exist, examples can run."""

import ast
import importlib
import importlib.util
import itertools
import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from typer import BadParameter
from typer.testing import CliRunner

import patchcollide
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.images.photographs import PHOTOGRAPHS
from tests.test_layering import FLOORS, OWNERS

if TYPE_CHECKING:
    from click import Command

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MOST_LINES_OF_README = 220
# Words that stand for something in prose, not for an option.
REST = re.compile(r"^(\.\.\.|[A-Z][A-Z.]*|[|#&].*)$")


def find_pages() -> list[Path]:
    """Returns the pages that are kept in the repository, or will be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    # Of an archive, without git, all but what tests and people leave behind.
    names = listed.stdout.split("\n") if listed.returncode == 0 else []
    found = [ROOT / name for name in names if name] or [
        page
        for page in ROOT.rglob("*.md")
        if not {".venv", "runs", "stores"} & set(page.relative_to(ROOT).parts)
    ]
    return sorted(page for page in found if page.is_file())


PAGES = find_pages()
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE)
    slugs: list[str] = []
    for heading in headings:
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        before = sum(other.rstrip("0123456789-") == slug for other in slugs)
        slugs.append(f"{slug}-{before}" if before else slug)
    return set(slugs)


def broken_links(page: Path) -> list[str]:
    found = []
    for link in LINK.findall(INLINE.sub("", FENCE.sub("", read(page)))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def command_lines(page: Path) -> list[list[str]]:
    """Returns the words after `patchcollide`, of each command in shell blocks and in prose."""
    text = read(page)
    lines = lines_of(text)
    # Prose breaks lines inside a command; a name and a word alone is a mention of the package.
    lines += [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", text))]
    found = [words_of(line) for line in lines]
    return [words[1:] for words in found if len(words) > 1 and words[0] == "patchcollide"]


def lines_of(text: str) -> list[str]:
    """Returns the lines of the shell blocks of a page; one that is broken is one."""
    blocks = [block for language, block in FENCE.findall(text) if language == "sh"]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def tour() -> str:
    return read(ROOT / "README.md").split("## A tour")[1].split("\n## ")[0]


def words_of(line: str) -> list[str]:
    words = shlex.split(line.rstrip("& "), comments=True)
    # Assignments before a command, and the program by its path.
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words.pop(0)
    return [Path(words[0]).name, *words[1:]] if words else []


@cache
def commands() -> dict[str, "Command"]:
    import typer.main

    import patchcollide.cli

    assert callable(patchcollide.cli.main)
    root: Any = typer.main.get_command(app)
    return {**root.commands, "": root}


def problems_of(words: list[str]) -> list[str]:
    """Says what is wrong with a command line: an unknown command, option or setting."""
    name = "" if words[0].startswith("-") else words[0]
    if name not in commands():
        return [f"no command {name}"]
    known = {option for each in commands()[name].params for option in each.opts}
    known |= {option for each in commands()[name].params for option in each.secondary_opts}
    options = [word for word in words if word.startswith("-") and not REST.match(word)]
    found = [f"no option {word} of {name}" for word in options if word not in {*known, "--help"}]
    values = [after for word, after in itertools.pairwise(words) if word == "--set"]
    values = [value for value in values if re.match(r"^[a-z0-9_.]+=[^A-Z.]", value)]
    load_config(None, values)
    return found


def python_blocks(page: Path) -> list[str]:
    return [block for language, block in FENCE.findall(read(page)) if language == "python"]


@cache
def settings_writer() -> ModuleType:
    path = ROOT / "scripts" / "write_settings_table.py"
    spec = importlib.util.spec_from_file_location("write_settings_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_found():
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "configs/README.md", "data/guide/README.md", "CHANGELOG.md"} <= names


@each_page
def test_links_and_anchors_of_a_page_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_and_a_broken_anchor_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A b, c!\n[x](no.md) [y](#a-b-c) [z](#no) [w](https://example.org)\n")
    assert broken_links(page) == ["no.md", "#no"]


@each_page
def test_files_that_a_page_names_are_there(page):
    names = INLINE.findall(FENCE.sub("", read(page)))
    paths = [name for name in names if re.fullmatch(r"(scripts|configs|data)/[\w./-]+", name)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@each_page
def test_commands_of_a_page_exist_with_their_options_and_settings(page):
    assert {" ".join(w): p for w in command_lines(page) if (p := problems_of(w))} == {}


def test_the_tour_has_seven_commands():
    assert len(re.findall(r"^# \d\.", tour(), re.MULTILINE)) == 7
    assert len(re.findall(r"^patchcollide ", tour(), re.MULTILINE)) == 7


def test_the_tour_makes_everything_that_it_uses():
    made: list[str] = []
    for words in filter(None, map(words_of, lines_of(tour()))):
        after = dict(itertools.pairwise(words))
        used = {
            word
            for before, word in itertools.pairwise(words[1:])
            if before not in ("--out", "--set", "--edges") and not word.startswith("--")
        }
        assert used or not made
        for path in used:
            assert any(path == there or path.startswith(f"{there}/") for there in made), path
        made += [after["--out"]] if "--out" in after else []
    photographs = set(re.findall(r"photos/(\w+)/[\w-]+\.png", tour()))
    assert photographs
    assert photographs <= PHOTOGRAPHS.keys()


@each_page
def test_commands_in_blocks_are_complete(page):
    for line in lines_of(read(page)):
        program, *words = words_of(line) or [""]
        if program == "patchcollide" and words:
            # Raises where an option or an argument is missing, or is no number where one should be.
            commands()[words[0]].make_context(words[0], words[1:])


def test_a_command_without_what_it_needs_is_found():
    # Typer has no name for all that it finds wrong with a command line.
    with pytest.raises(BadParameter.__mro__[1], match="Missing parameter: out"):
        commands()["index"].make_context("index", ["photos"])


@pytest.mark.parametrize("name", ["", *sorted(commands())])
def test_every_command_helps(name):
    result = CliRunner().invoke(app, [name, "--help"] if name else ["--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@each_page
def test_scripts_of_a_page_know_the_options_they_are_given(page):
    text = read(page)
    code = [*lines_of(text), *(" ".join(found.split()) for found in INLINE.findall(text))]
    for line in code:
        if not re.match(r"^([A-Z_]+=\S+ )*python scripts/", line):
            continue
        path, *words = words_of(line)[1:]
        script = read(ROOT / path)
        options = [word for word in words if word.startswith("--")]
        assert [word for word in options if f'"{word}"' not in script] == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("collide --sauce cat.jpg", "no option --sauce of collide"),
        ("colide --source cat.jpg", "no command colide"),
    ],
)
def test_an_unknown_command_and_an_unknown_option_are_found(line, problem):
    assert problems_of(line.split()) == [problem]


def test_an_unknown_setting_is_found():
    from patchcollide.errors import ConfigError

    with pytest.raises(ConfigError, match=r"optimiser\.step"):
        problems_of(["collide", "--set", "optimiser.step=3"])


def test_the_readme_is_one_screen_a_purpose():
    assert len(read(ROOT / "README.md").splitlines()) <= MOST_LINES_OF_README


def test_the_table_of_settings_is_what_its_script_writes():
    expected = settings_writer().settings_table()
    told = "Run `python scripts/write_settings_table.py`."
    assert read(ROOT / "configs" / "README.md") == expected, told


def test_all_guides_and_results_are_in_their_index():
    for folder in (ROOT / "data" / "guide", ROOT / "data" / "results"):
        linked = set(LINK.findall(read(folder / "README.md")))
        assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= linked


def test_all_scripts_are_in_their_index():
    listed = set(re.findall(r"`([\w.]+)`", read(ROOT / "scripts" / "README.md")))
    there = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert there - {"README.md"} <= listed


@each_page
def test_python_blocks_of_a_page_are_python_and_import_what_exists(page):
    for block in python_blocks(page):
        for statement in ast.walk(ast.parse(block)):
            if isinstance(statement, ast.ImportFrom):
                assert statement.module is not None
                module, names = statement.module, [alias.name for alias in statement.names]
                assert [name for name in names if not is_there(module, name)] == []


def is_there(module: str, name: str) -> bool:
    """Says whether a name can be imported, without loading what takes seconds."""
    if module == "patchcollide" and name in patchcollide.__all__:
        return True
    place = importlib.util.find_spec(module)
    is_package = place is not None and place.submodule_search_locations is not None
    if is_package and importlib.util.find_spec(f"{module}.{name}"):
        return True
    return hasattr(importlib.import_module(module), name)


def test_the_architecture_page_has_the_floors_and_owners_that_are_tested():
    text = read(ROOT / "patchcollide" / "README.md")
    floors = text.split("## Floors")[1]
    assert [line.split() for line in FENCE.findall(floors)[0][1].splitlines()] == FLOORS
    described = re.findall(r"^\| (`.*?) \| ", floors.split("## One owner")[0], re.MULTILINE)
    packages = {name for cell in described for name in re.findall(r"`(\w+)`", cell)}
    assert packages | {"__main__"} == {name for floor in FLOORS for name in floor}
    owners = set(re.findall(r"^\| .* \| `([\w.]+)` \|$", floors, re.MULTILINE))
    assert owners <= {module for modules in OWNERS.values() for module in modules}


def test_versions_of_the_citation_and_the_package_agree():
    text = read(ROOT / "README.md")
    assert f"Version {patchcollide.__version__}" in text


def test_the_package_says_nothing_of_a_licence_that_is_not_there():
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not any(name.startswith("License ::") for name in about["classifiers"])
    assert about["keywords"]
