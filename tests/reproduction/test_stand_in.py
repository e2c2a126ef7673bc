"""Section 4 on photographs of one's own: which pairs, what is said of them, and what is kept."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.errors import ImageError
from patchcollide.images.pictures import write_png
from patchcollide.images.sources import find_images
from patchcollide.report.tables import Row
from patchcollide.reproduction import stand_in
from patchcollide.reproduction.inputs import Inputs
from patchcollide.reproduction.rendering import Table, render_tables_markdown
from patchcollide.reproduction.stand_in import (
    CHURCH,
    CLEAVER,
    StandIn,
    choose_pairs,
    stand_in_rows,
    write_subset,
)
from patchcollide.runs import collide
from tests.conftest import SMALL

SETTINGS = [word for text in (*SMALL, "optimiser.num_vertices=2") for word in ("--set", text)]


@pytest.fixture
def photographs(tmp_path):
    """Eight photographs of a class each, the church's and the cleaver's among them."""
    rng = np.random.default_rng(3)
    for label in [CHURCH, CLEAVER, *(f"n0000000{number}" for number in range(6))]:
        (tmp_path / "given" / label).mkdir(parents=True)
        square = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        write_png(tmp_path / "given" / label / f"{label}_of_{label[-1]}.png", square)
    return tmp_path / "given"


def names(pair):
    return pair.source.name, pair.target.name


def test_the_papers_pairs_come_first_and_others_share_no_photograph(photographs):
    files = find_images(photographs).files
    first, second, *others = choose_pairs(files, photographs, 5)
    assert (first.source.label, first.target.label) == (CHURCH, CHURCH)
    assert (second.source.label, second.target.label) == (CHURCH, CLEAVER)
    shown = [name for pair in (second, *others) for name in names(pair)]
    assert len(set(shown)) == len(shown) == 8
    again = choose_pairs(tuple(reversed(files)), photographs, 5)
    assert [names(pair) for pair in again] == [names(pair) for pair in (first, second, *others)]
    fewer = choose_pairs(files, photographs, 3)
    assert [names(pair) for pair in fewer] == [names(pair) for pair in again[:3]]


def test_too_few_classes_are_refused_with_what_they_suffice_for(photographs):
    with pytest.raises(ImageError, match=r"12 pairs need photographs of 22 classes.* has 8\. Ask "):
        stand_in_rows(StandIn(photographs))
    assert len(stand_in_rows(StandIn(photographs, num_pairs=5))) == 5


def test_every_row_says_that_it_stands_in_and_how_many_images_there_are(photographs, monkeypatch):
    monkeypatch.setattr(stand_in, "SIZES", (4, 8))
    given = StandIn(photographs, "vgg16", "fc6", photographs / "mine.npz", num_pairs=3)
    rows = stand_in_rows(given)
    assert [row.name for row in rows] == [
        *(f"photographs_0{number}" for number in (1, 2, 3)),
        "photographs_02_store_004",
    ]
    assert [row.origin for row in rows] == ["Table 6, row 1", "Table 6, row 2", "", rows[1].origin]
    assert rows[0].title == "stand-in, vgg16, patches, of 9 with itself"
    assert rows[3].title == "stand-in, vgg16, patches, of 9 with of 2, store of 4"
    for row, count in zip(rows, (8, 8, 8, 4), strict=True):
        assert "stand-in" in row.note
        assert f"vgg16, fc6, mine.npz, and a store of {count} photographs" in row.note
        assert "the paper's holds 128,066" in row.note


def test_commands_take_paths_and_settings_as_they_are(photographs, tmp_path):
    odd = photographs.rename(tmp_path / "a {b} [c] d")
    (odd / CHURCH / f"{CHURCH}_of_9.png").rename(odd / CHURCH / "[x] {y}.png")
    given = StandIn(odd, "mlp", "", odd / "w {1}.safetensors", 1, ['network.layer="f c"'])
    index, made = Inputs(tmp_path / "out", odd).commands(stand_in_rows(given)[0])
    source = str(odd / CHURCH / "[x] {y}.png")
    assert index[:2] == ["index", str(odd)]
    assert made[1:5] == ["--source", source, "--target", source]
    assert made[made.index("--weights") + 1] == str(odd / "w {1}.safetensors")
    assert made[-2:] == index[-2:] == ["--set", 'network.layer="f c"']
    assert "allow_same_image=true" in made


def test_subsets_are_within_each_other_and_copies_are_whole(photographs, tmp_path):
    for count in (3, 5):
        write_subset(photographs, tmp_path / str(count), count)
    small, large = (
        {file.name: file.path.read_bytes() for file in find_images(tmp_path / count).files}
        for count in ("3", "5")
    )
    assert (len(small), len(large)) == (3, 5)
    assert small.items() <= large.items()
    assert (
        large.items()
        <= {f.name: f.path.read_bytes() for f in find_images(photographs).files}.items()
    )


def run(out, *words):
    result = CliRunner().invoke(app, ["reproduce", "--out", str(out), *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_tables_stand_beside_the_papers_and_finished_pairs_are_kept(
    photographs, tmp_path, small_network, monkeypatch
):
    monkeypatch.setattr(collide, "load_network", lambda *_: small_network)
    monkeypatch.setattr(stand_in, "SIZES", (4,))
    words = ("--photographs", photographs, "--pairs", 2, "--steps", 4, *SETTINGS)
    result = run(tmp_path / "out", *words)
    assert result.exit_code in (0, 1), result.output
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert rows.keys() == {"photographs_01", "photographs_02", "photographs_02_store_004"}
    for row in rows.values():
        assert row["verdict"] in ("feature collision", "class collision", "none")
        assert row["values"]["tau_mean"] <= row["values"]["tau_max"]
        assert "stand-in" in row["note"]
    run_of = tmp_path / "out" / "photographs_02"
    summary = json.loads((run_of / "summary.json").read_text())
    values = rows["photographs_02"]["values"]
    assert values["coarse_share"] == summary["visibility"]["block_share"]
    assert values["source_distance"] == summary["closeness"]["distance_mean"]
    assert [row["values"]["store_images"] for row in rows.values()] == [8, 8, 4]
    assert all("optimiser.steps=4" in row["commands"][-1] for row in rows.values())
    tables = (tmp_path / "out" / "tables.md").read_text()
    pairs, sizes = tables.split("## The same pair from smaller stores")
    assert "Table 6, row 1" in pairs
    assert "the mean of 2 pairs" in pairs
    assert "A stand-in for the paper's network and data" in pairs
    assert pairs.count("![Polytope of photographs") == 2
    cells = [[cell.strip() for cell in line.split("|")] for line in pairs.splitlines()]
    place = next(row.index("from the source") for row in cells if "from the source" in row)
    share = f"{values['source_distance'] / values['dataset_distance']:.1%}"
    assert share in [row[place] for row in cells if len(row) > place]
    numbers = [line for line in sizes.splitlines() if line.startswith("| ")]
    assert [line.split("|")[-2].strip() for line in numbers[2:5]] == ["-", "4", "8"]
    page = (tmp_path / "out" / "tables.html").read_text()
    assert "a store of 4 photographs, where the paper" in page
    again = run(tmp_path / "out", *words)
    assert again.stderr.count("holds this run already: nothing to do") >= 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "mlp"), r"--network is for --photographs FOLDER"),
        (("--pairs", "2"), r"--pairs is for --photographs FOLDER"),
        (("--photographs", "given", "--quick"), r"takes the place of --quick, --rows"),
        (("--photographs", "nowhere"), r"nowhere does not exist"),
        (("--photographs", "given", "--pairs", "9"), r"9 pairs need photographs of 16 classes"),
        (("--photographs", "given", "--set", "optimiser.stepz=3"), r"setting optimiser.stepz"),
        (("--photographs", "given", "--pairs", "1", "--weights", "w.npz"), r"w\.npz is not a file"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_any_work(
    words, message, photographs, tmp_path, monkeypatch
):
    monkeypatch.chdir(photographs.parent)
    result = run(tmp_path / "out", *words)
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert re.search(message, said), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rate", "told"), [(1.0, "100.00%"), (0.999996, "99.99%"), (0.5, "50.00%")]
)
def test_a_share_of_less_than_all_is_never_told_as_all(rate, told):
    row = Row("a pair", "here", rate, 1.0, 1.0, None, None)
    table = Table("A table", [], also=[row])
    numbers = render_tables_markdown([table], "pictures").splitlines()
    assert numbers[-1].split(" | ")[2] == told
