import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide import pipeline, progress
from patchcollide.cli.framework import app
from patchcollide.errors import DataError, ImageError, MissingLibraryError
from patchcollide.images import bundled, photographs
from patchcollide.images.photographs import PHOTOGRAPHS, cut_squares, photograph, write_photographs
from patchcollide.images.pictures import read_image, read_pixels, read_png
from patchcollide.images.sources import find_images

FEW = ("camera", "chelsea", "china")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", {name: PHOTOGRAPHS[name] for name in FEW})


def command(*words):
    return CliRunner().invoke(app, ["photographs", *map(str, words)])


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", sorted(PHOTOGRAPHS))
def test_every_photograph_is_in_the_wheels_and_readable(name):
    image = read_pixels(photograph(name))
    assert min(image.shape[:2]) >= 256
    assert image.std() > 5


def test_an_unknown_photograph_is_refused_with_the_known_ones():
    with pytest.raises(ImageError, match=r"no photograph 'lena'. Choose one of astronaut, brick"):
        photograph("lena")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(bundled, "find_spec", lambda _: None)
    with pytest.raises(
        MissingLibraryError, match=r"chelsea\.png is part of scikit-image.*pip install"
    ):
        photograph("chelsea")


def test_a_wheel_without_the_file_is_named(monkeypatch):
    monkeypatch.setitem(PHOTOGRAPHS, "chelsea", ("sklearn", "datasets/images/chelsea.png"))
    with pytest.raises(
        DataError, match=r"chelsea\.png, but the installed scikit-learn came without"
    ):
        photograph("chelsea")


def test_the_tree_has_a_folder_for_each_photograph(few, tmp_path):
    folder = tmp_path / "new" / "photos"
    write_photographs(folder, cuts=2, size=32)
    files = find_images(folder).files
    assert [file.name for file in files] == [
        f"{name}/{name}-{number:03d}.png" for name in FEW for number in range(3)
    ]
    assert [file.label for file in files[::3]] == list(FEW)
    assert all(read_png(file.path).shape == (32, 32, 3) for file in files)
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_the_first_image_is_the_whole_photograph_fitted(few, tmp_path):
    write_photographs(tmp_path / "photos", cuts=0, size=48)
    expected = read_image(photograph("chelsea"), size=48, fit="crop", max_pixels=10**7)
    assert np.array_equal(read_png(tmp_path / "photos/chelsea/chelsea-000.png"), expected)


def test_the_tree_is_the_same_each_time_and_another_with_another_seed(few, tmp_path):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        write_photographs(tmp_path / name, cuts=2, size=16, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert first["camera/camera-000.png"] == other["camera/camera-000.png"]
    assert first["camera/camera-001.png"] != other["camera/camera-001.png"]


def test_cuts_have_many_scales_and_every_other_one_is_mirrored():
    # Along a ramp, the slope of a cut tells its scale, and the sign whether it is mirrored.
    ramp = np.repeat(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], 100, axis=0)
    ramp = np.repeat(ramp, 3, axis=2)
    cuts = cut_squares(ramp, cuts=40, size=20, generator=np.random.default_rng(0))
    ends = np.array([cut[10, [2, -3], 0].astype(float) for cut in cuts])
    sides = (ends[:, 1] - ends[:, 0]) / 255 * 200 * 20 / 15
    assert (sides[::2] > 0).all()
    assert (sides[1::2] < 0).all()
    assert 27 < np.abs(sides).min() < 45
    assert 85 < np.abs(sides).max() < 103
    assert ends.min() < 30
    assert ends.max() > 225


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (9, 2)])
def test_tiny_images_can_be_cut(shape):
    image = np.full((*shape, 3), 7, np.uint8)
    cuts = list(cut_squares(image, cuts=9, size=3, generator=np.random.default_rng(0)))
    assert len(cuts) == 9
    assert all((cut == 7).all() for cut in cuts)


def test_writing_tells_how_far_it_is(few, tmp_path):
    told = []
    with progress.listening(lambda *what: told.append(what)):
        write_photographs(tmp_path / "photos", cuts=1, size=16)
        write_photographs(tmp_path / "photos", cuts=1, size=16)
    assert told == [("Writing photographs", done, 6) for done in range(7)]


def test_a_finished_tree_is_left_alone(few, tmp_path, monkeypatch):
    write_photographs(tmp_path / "photos", cuts=1, size=16)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(photographs, "photograph", lambda _: pytest.fail("read again"))
    write_photographs(tmp_path / "photos", cuts=1, size=16)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_tree_with_other_settings_is_refused(few, tmp_path):
    write_photographs(tmp_path / "photos", cuts=1, size=16)
    before = contents(tmp_path / "photos")
    with pytest.raises(
        ImageError, match=r"cuts = 1 \(now 2\), seed = 0 \(now 5\)\. Choose another"
    ):
        write_photographs(tmp_path / "photos", cuts=2, size=16, seed=5)
    assert contents(tmp_path / "photos") == before


def test_a_folder_of_something_else_is_refused_and_kept(few, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ImageError, match="something other than the photographs"):
        write_photographs(tmp_path, cuts=1, size=16)
    with pytest.raises(ImageError, match="something other than the photographs"):
        write_photographs(tmp_path / "thesis.txt", cuts=1, size=16)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_an_interrupted_tree_leaves_nothing_and_is_made_anew(few, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.partial" / "camera").mkdir(parents=True)
    (tmp_path / "photos.partial" / "camera" / "old.png").write_bytes(b"left by a killed run")

    def interrupt(name):
        if name == "china":
            raise KeyboardInterrupt
        return photograph(name)

    with monkeypatch.context() as patch:
        patch.setattr(photographs, "photograph", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_photographs(tmp_path / "photos", cuts=1, size=16)
    assert contents(tmp_path) == {}
    write_photographs(tmp_path / "photos", cuts=1, size=16)
    assert len(contents(tmp_path)) == 2 * len(FEW) + 1


def test_the_command_writes_a_folder_that_can_be_indexed_and_says_where(few, tmp_path):
    result = command("--out", tmp_path / "new" / "photos", "--cuts", 1)
    assert result.exit_code == 0
    assert result.stdout.split() == [str(tmp_path / "new" / "photos")]
    names = [file.name for file in find_images(tmp_path / "new" / "photos").files]
    assert names == [f"{name}/{name}-{number:03d}.png" for name in FEW for number in range(2)]


def test_the_command_given_again_leaves_its_folder_alone(few, tmp_path):
    words = ("--out", tmp_path / "photos", "--cuts", 0)
    assert command(*words).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*")}
    assert command(*words).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*")} == before


def test_the_command_refuses_a_folder_of_something_else_in_a_sentence(few, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = command("--out", tmp_path)
    assert result.exit_code == 2
    assert "something other than the photographs" in " ".join(result.stderr.split())
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_the_command_and_the_demo_write_the_same_photographs(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "_files", lambda *how: [("how.txt", repr(how).encode())])
    monkeypatch.setattr(pipeline, "index", lambda *_: None)
    monkeypatch.setattr(pipeline, "collide", lambda *_: tmp_path)
    pipeline.run_demo(tmp_path / "demo")
    assert command("--out", tmp_path / "photos").exit_code == 0
    assert contents(tmp_path / "photos") == contents(tmp_path / "demo-photographs")
