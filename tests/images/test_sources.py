"""Pictures are found in folders, tar archives and Parquet files, told apart by their content."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import ImageError
from patchcollide.images.pictures import png_bytes, read_image
from patchcollide.images.sources import find_images, in_reading_order
from patchcollide.images.windows import Window
from tests.helpers.archives import (
    KINDS,
    add,
    class_tars,
    tar_bytes,
    write_as,
    write_parquet,
    write_shards,
    write_tar,
)
from tests.helpers.pictures import noise, save


@pytest.fixture
def photos(write_images):
    return write_images("photos", num=6)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(path, noise(9, 9))


def names(listing):
    return [(file.name, file.label) for file in listing.files]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_have_names_classes_bytes_and_digests_as_in_folders(kind, photos, tmp_path):
    found, expected = find_images(write_as(kind, photos, tmp_path / "x")), find_images(photos)
    assert names(found) == names(expected)
    for ours, theirs in zip(found.files, expected.files, strict=True):
        with ours.open() as file:
            assert file.read() == theirs.path.read_bytes()
        assert ours.digest() == theirs.digest()
    assert sorted(number for number, _ in in_reading_order(found.files)) == list(range(6))
    for number, picture in in_reading_order(found.files):
        assert picture.digest() == expected.files[number].digest()


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_read_in_the_order_in_which_they_lie(kind, photos, tmp_path):
    found = find_images(write_as(kind, photos, tmp_path / "x")).files
    order = [found[number].place for number, _ in in_reading_order(found)]
    assert order == sorted(order)
    assert order != [file.place for file in found]


def test_parts_of_files_read_like_files(tmp_path, rng):
    content = rng.bytes(5000)
    (tmp_path / "a").write_bytes(content)
    part = io.BufferedReader(Window((tmp_path / "a").open("rb", buffering=0), 700, 3000), 64)
    expected = io.BytesIO(content[700:3700])
    for _ in range(300):
        place, whence = int(rng.integers(0, 3200)), int(rng.integers(0, 3))
        offset = place if whence == 0 else -place if whence == 2 else 5
        if whence == 2 and place > 3000:
            continue
        assert part.seek(offset, whence) == expected.seek(offset, whence)
        count = int(rng.integers(0, 400))
        assert part.read(count) == expected.read(count)
        assert part.tell() == expected.tell()
    part.close()
    assert part.raw.closed


# Layouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [".", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_layout_is_known_at_any_level(level, photos, tmp_path):
    root = tmp_path / "kaggle"
    train = root / "ILSVRC" / "Data" / "CLS-LOC" / "train"
    train.parent.mkdir(parents=True)
    photos.rename(train)
    picture(root / "ILSVRC" / "Data" / "CLS-LOC" / "val" / "v.png")
    assert names(find_images(root / level)) == names(find_images(train))
    inside = [(str(path.relative_to(root)), path) for path in root.rglob("*.png")]
    archive = write_tar(tmp_path / "a.tar", [(name, path.read_bytes()) for name, path in inside])
    assert names(find_images(archive)) == names(find_images(train))


def test_folders_called_train_and_val_are_classes_elsewhere(tmp_path):
    for name in ("train", "val"):
        picture(tmp_path / name / "a.png")
    assert names(find_images(tmp_path)) == [("train/a.png", "train"), ("val/a.png", "val")]


def test_a_folder_of_the_tars_of_classes_is_their_tar(photos, tmp_path):
    for name, content in class_tars(photos):
        named = {"class-0.tar": "n01440764.tar", "class-1.tar": "n01443537.tar"}[name]
        (tmp_path / "tars").mkdir(exist_ok=True)
        (tmp_path / "tars" / named).write_bytes(content)
    (tmp_path / "tars" / "README.md").write_text("ImageNet")
    found = find_images(tmp_path / "tars")
    assert {file.label for file in found.files} == {"n01440764", "n01443537"}
    assert found.kind == "tar of tars"


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("photos-{000000..000001}.tar", 6), ("photos-{000001,000000}.tar", 6), ("photos-*1.tar", 3)],
)
def test_patterns_name_shards(pattern, count, photos, tmp_path):
    found = find_images(write_shards(photos, tmp_path / "shards") / pattern)
    assert len(found.files) == count
    assert found.origin.name == pattern


def test_flat_archives_have_no_classes_as_flat_folders(tmp_path):
    archive = write_tar(tmp_path / "val.tar", [("b.png", b"x"), ("a.jpg", b"x"), ("a.txt", b"x")])
    found = find_images(archive)
    assert names(found) == [("a.jpg", ""), ("b.png", "")]
    assert found.others == ("a.txt",)


def test_numbers_are_classes_where_labels_are_numbers(tmp_path):
    members = [("1.jpg", b"x"), ("1.cls", b"207"), ("2.jpg", b"x"), ("2.json", b'{"label": 3}')]
    found = find_images(write_tar(tmp_path / "a.tar", members))
    assert names(found) == [("207/1.jpg", "207"), ("3/2.jpg", "3")]


def test_notes_in_folders_of_classes_are_no_labels(tmp_path):
    members = [("a/1.jpg", b"x"), ("a/1.json", b'{"label": "z"}'), ("b/2.jpg", b"x")]
    found = find_images(write_tar(tmp_path / "a.tar", members))
    assert names(found) == [("a/1.jpg", "a"), ("b/2.jpg", "b")]


def test_tables_without_names_of_classes_have_their_labels(photos, tmp_path):
    path = write_parquet(photos, tmp_path / "a.parquet", named=False)
    assert names(find_images(path)) == names(find_images(photos))


def test_rows_without_a_path_are_named_by_file_and_row(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"image": [b"x", b"y", b"z"], "label": [7, 7, 5]})
    pq.write_table(table, tmp_path / "train-00.parquet", row_group_size=2)
    expected = ["5/train-00-0000002", "7/train-00-0000000", "7/train-00-0000001"]
    found = find_images(tmp_path / "train-00.parquet").files
    assert [file.name for file in found] == expected
    assert [file.open().read() for file in found] == [b"z", b"x", b"y"]


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [
        ("b", {"b"}),
        ("b, a", {"a", "b"}),
        ("tench, Tinca tinca", {"tench, Tinca tinca"}),
        ("a,tench, Tinca tinca,b", {"a", "b", "tench, Tinca tinca"}),
    ],
)
def test_classes_are_taken_by_name_and_names_may_have_commas(wanted, labels, tmp_path):
    for name in ("a", "b", "c", "tench, Tinca tinca"):
        picture(tmp_path / name / "x.png")
    found = find_images(tmp_path, wanted)
    assert {file.label for file in found.files} == labels


def test_a_class_that_is_not_there_is_named_with_those_like_it(tmp_path):
    for name in ("n01440764", "n01443537"):
        picture(tmp_path / name / "x.png")
    told = r"there is no class 'n01443357' among its 2, such as 'n01443537'.*Correct --where"
    with pytest.raises(ImageError, match=told):
        find_images(tmp_path, "n01440764,n01443357")


# What is not taken --------------------------------------------------------------------------------


def test_members_that_lead_out_or_are_no_files_are_not_taken(tmp_path):
    link, hard = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, {"type": tarfile.LNKTYPE}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "a/good.png", b"x")
        for name in ("/etc/abs.png", "../../up.png", "a/../../b.png"):
            add(archive, name, b"x")
        add(archive, "a/link.png", b"", **link)
        add(archive, "a/hard.png", b"", linkname="a/good.png", **hard)
        add(archive, "a/tty.png", b"", type=tarfile.CHRTYPE)
        add(archive, "a/pipe.png", b"", type=tarfile.FIFOTYPE)
        add(archive, "a/._good.png", b"x")
        add(archive, "a/twice.png", b"first")
        add(archive, "./a//twice.png", b"last")
    found = find_images(tmp_path / "a.tar")
    assert [file.name for file in found.files] == ["a/good.png", "a/twice.png"]
    assert found.files[1].open().read() == b"last"
    assert found.num_links == 2
    assert found.refused == (
        "'/etc/abs.png' leads out of the archive",
        "'../../up.png' leads out of the archive",
        "'a/../../b.png' leads out of the archive",
        "a/tty.png is a pipe or device",
        "a/pipe.png is a pipe or device",
        f"a/twice.png in {tmp_path / 'a.tar'} comes again later",
    )


def test_a_picture_that_would_be_huge_is_refused_as_in_folders(tmp_path):
    bomb = io.BytesIO()
    Image.new("1", (3000, 3000)).save(bomb, "PNG")
    archive = write_tar(tmp_path / "a.tar", [("a/bomb.png", bomb.getvalue()), ("a/0.png", b"")])
    empty, huge = find_images(archive).files
    told = rf"^a/bomb\.png in {archive}: too many pixels: 3000 x 3000"
    with pytest.raises(ImageError, match=told):
        read_image(huge, size=8, fit="crop", max_pixels=10_000)
    with pytest.raises(ImageError, match=r"a/0\.png in .*: an empty file"):
        read_image(empty, size=8, fit="crop", max_pixels=10_000)


def test_names_of_any_bytes_differ(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for raw in (
            b"a/\xff.png",
            rb"a/\xff.png",
            "a/é.png".encode(),
            b"a/" + b"l" * 200 + b".png",
        ):
            add(archive, os.fsdecode(raw), b"x")
    found = [file.name for file in find_images(tmp_path / "a.tar").files]
    assert sorted(found) == sorted(
        [r"a/\xff.png", r"a/\x5cxff.png", "a/é.png", f"a/{'l' * 200}.png"]
    )


def test_long_names_of_both_kinds_are_read(tmp_path):
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / f"{form}.tar", "w", format=form) as archive:
            add(archive, f"class/{'x' * 180}.png", png_bytes(np.zeros((9, 9, 3), np.uint8)))
            add(archive, "class/y.png", b"y")
        long, short = find_images(tmp_path / f"{form}.tar").files
        assert (long.name, short.open().read()) == (f"class/{'x' * 180}.png", b"y")
        assert read_image(long, size=9, fit="crop", max_pixels=100).sum() == 0


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(form, tmp_path, rng):
    names = [f"{'d' * n}/{'f' * n}.png" for n in (1, 40, 80, 95)] + ["a/é.png", "a/b c.png"]
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for number, name in enumerate(names):
            about = {"mtime": 1e9 + number / 3 if form == tarfile.PAX_FORMAT else 1e9}
            add(archive, name, rng.bytes(int(rng.integers(1, 2000))), **about)
    with tarfile.open(tmp_path / "a.tar") as archive:
        expected = {info.name: (info.offset_data, info.size) for info in archive}
    found = find_images(tmp_path / "a.tar").files
    assert {file.name: (file.place[1], file.state()[0]) for file in found} == expected
    assert len(expected) == len(names)


def test_tar_bytes_of_tests_are_whole_records():
    assert len(tar_bytes([("a", b"x")])) == tarfile.RECORDSIZE
