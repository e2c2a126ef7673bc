"""Archives and tables that are damaged, mixed or of another kind are refused in one sentence."""

import gzip
import io
import json
import lzma
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.errors import ImageError, MissingLibraryError
from patchcollide.images.pictures import png_bytes
from patchcollide.images.sources import find_images
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


@pytest.fixture
def photos(write_images):
    return write_images("photos", num=6)


def refused(path, told):
    """One sentence, at the command line, and nothing is left behind."""
    with pytest.raises(ImageError, match=told):
        find_images(path)
    out = path.parent / "store"
    result = CliRunner().invoke(app, ["index", str(path), "--out", str(out)])
    assert result.exit_code == 2
    assert not [found for found in out.parent.iterdir() if found.name.startswith("store")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.003, 0.2, 0.5, 0.9])
def test_truncated_files_are_refused(kind, share, photos, tmp_path):
    source = write_as(kind, photos, tmp_path / "x")
    path = source if source.is_file() else sorted(source.iterdir())[-1]
    content = path.read_bytes()
    # Of a tar, all but 1024 of the zeros at its end are padding.
    length = len(content) if kind == "parquet" else len(content.rstrip(b"\0")) + 512
    path.write_bytes(content[: int(share * length)])
    with pytest.raises(ImageError, match=r"truncated|is a file of another kind"):
        find_images(path)


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"a/{n}.png", bytes(300)) for n in range(3)])
    content = path.read_bytes()
    end = 3 * 1024
    for cut in range(512, end + 1, 128):
        path.write_bytes(content[:cut])
        with pytest.raises(
            ImageError, match=rf"truncated tar archive: it is cut off at byte {cut}"
        ):
            find_images(path)
    path.write_bytes(content[: end + 512])
    assert len(find_images(path).files) == 3


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"a/{n}.png", bytes(300)) for n in range(3)])
    content = bytearray(path.read_bytes())
    content[1024 + 3] ^= 1
    path.write_bytes(content)
    refused(path, r"damaged tar archive: byte 1024 should begin a member.*Bring the whole one")


def test_an_archive_within_that_is_cut_off_is_named(photos, tmp_path):
    (name, content), other = class_tars(photos)
    path = write_tar(tmp_path / "train.tar", [(name, content[:1100]), other])
    refused(path, rf"train\.tar: {name} is a truncated tar archive: it is cut off at byte 1100")


def test_archives_joined_to_one_are_refused(tmp_path):
    content = tar_bytes([("a/1.png", b"x")]) + bytes(2 << 20) + tar_bytes([("a/2.png", b"x")])
    (tmp_path / "a.tar").write_bytes(content)
    refused(tmp_path / "a.tar", r"ends at byte 1024 as a tar archive, but \d+ bytes follow")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_that_announce_too_much_are_refused(kind, tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 1 << 40
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(5000))
    refused(tmp_path / "a.tar", r"damaged tar archive \(a header announces 1099511627776 bytes")


def test_a_chain_of_headers_without_end_is_refused(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    (tmp_path / "a.tar").write_bytes((info.tobuf() + b"name" + bytes(508)) * 3000)
    refused(tmp_path / "a.tar", "damaged tar archive")


def test_a_tar_may_be_called_zip_and_a_zip_is_refused_by_any_name(photos, tmp_path):
    source = write_as("tar of tars", photos, tmp_path / "x")
    source.rename(tmp_path / "train.zip")
    assert len(find_images(tmp_path / "train.zip").files) == 6
    with zipfile.ZipFile(tmp_path / "train.tar", "w") as archive:
        archive.writestr("a/1.png", b"x")
    refused(tmp_path / "train.tar", r"train\.tar is a zip archive, and images.*with `unzip`")


@pytest.mark.parametrize(
    ("pack", "told"),
    [
        (gzip.compress, "compressed with gzip.*`gunzip`"),
        (lzma.compress, "compressed with xz.*`unxz`"),
    ],
)
def test_packed_archives_are_refused_alone_and_in_folders(pack, told, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.tar").write_bytes(pack(tar_bytes([("a/1.png", b"x")])))
    refused(tmp_path / "x" / "a.tar", told)
    refused(tmp_path / "x", told)


def test_archives_and_tables_are_not_mixed(photos, tmp_path):
    write_parquet(photos, tmp_path / "x" / "a.parquet")
    write_as("tar", photos, tmp_path / "x")
    refused(tmp_path / "x", r"several kinds, such as .*photos\.tar, a tar.*, and .*a\.parquet")


def test_archives_of_two_kinds_are_not_mixed(photos, tmp_path):
    (name, content), other = class_tars(photos)
    path = write_tar(tmp_path / "a.tar", [(name, content), other, ("b/1.png", b"x")])
    refused(path, r"holds both archives, such as class-1\.tar, and pictures, such as b/1\.png")
    write_tar(tmp_path / "x" / "flat.tar", [("1.png", b"x")])
    write_tar(tmp_path / "x" / "deep.tar", [("a/1.png", b"x")])
    refused(tmp_path / "x", r"two kinds: .*deep\.tar has its pictures in folders, .*flat\.tar has")
    shutil.copy(path, tmp_path / "x" / "flat.tar")
    write_tar(tmp_path / "y" / "tars.tar", [(name, content)])
    write_tar(tmp_path / "y" / "deep.tar", [("a/1.png", b"x")])
    refused(tmp_path / "y", r"some hold archives of classes, but .*deep\.tar holds pictures")


@pytest.mark.parametrize("splits", [("train", "validation"), ("train", "val", "test")])
def test_parts_of_a_data_set_are_not_mixed(splits, photos, tmp_path):
    for split in splits:
        shutil.copytree(write_shards(photos, tmp_path / split), tmp_path / "x", dirs_exist_ok=True)
        for path in (tmp_path / "x").glob("photos*"):
            path.rename(path.with_name(f"imagenet1k-{split}-{path.name[-10:]}"))
    refused(tmp_path / "x", r"several parts of a data set: .*train \(imagenet1k-train-0000")
    assert len(find_images(tmp_path / "x" / "*train*").files) == 6


def test_shards_without_labels_are_refused(photos, tmp_path):
    for number in range(2):
        write_tar(tmp_path / "x" / f"shard-{number:04d}.tar", [(f"{number}.jpg", b"x")])
    refused(tmp_path / "x", r"2 archives of pictures without labels, such as .*expected key\.cls")
    write_tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.cls", b"3"), ("2.jpg", b"x")])
    refused(tmp_path / "a.tar", r"holds 2 pictures, but 1 of them have no label, such as 2\.jpg")


@pytest.mark.parametrize("label", [b"\xff\xfe", b"a\nb", b"x" * 300, b'{"label"', b"[1]"])
def test_labels_that_are_none_are_named(label, tmp_path):
    kind = "json" if label[:1] in b"{[" else "cls"
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"x"), (f"1.{kind}", label)])
    told = r"have no label" if label == b"[1]" else rf"1\.{kind} should be a label, a number or a"
    refused(path, told)


def test_sources_without_pictures_are_refused(tmp_path):
    refused(write_tar(tmp_path / "a.tar", []), r"Expected images.*in .*a\.tar, but found none")
    refused(write_tar(tmp_path / "b.tar", [("a.txt", b"x")]), "found none, only 1 other files")
    (tmp_path / "x").mkdir()
    refused(tmp_path / "x", r"Expected images.*or its folders, but found none")


@pytest.mark.parametrize("pattern", ["photos-{000000..000005}.tar", "shots-*.tar"])
def test_shards_that_are_missing_are_named(pattern, photos, tmp_path):
    source = write_shards(photos, tmp_path / "x") / pattern
    refused(source, r"Expected files by the pattern .*, but there is none by .*(000002|shots)")


def test_ranges_that_end_before_they_begin_are_named(tmp_path):
    source = tmp_path / "photos-{0009..0000}.tar"
    refused(source, r"smaller number to the larger, but .*has \{0009\.\.0000\}.*\{0000\.\.0009\}")


def test_a_range_without_end_is_not_kept_in_memory(photos, tmp_path):
    source = write_shards(photos, tmp_path / "x") / f"photos-{{000000..{10**12}}}.tar"
    refused(source, "there is none by .*000002")


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    refused(tmp_path / "a.tar", r"a\.tar is empty")
    (tmp_path / "b.tar").write_bytes(b"text")
    refused(tmp_path / "b.tar", r"b\.tar is a file of another kind")


# Tables -------------------------------------------------------------------------------------------


def write_table(path, metadata=None, **columns):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


ONE = [{"bytes": png_bytes(np.zeros((9, 9, 3), np.uint8)), "path": "a.png"}]


@pytest.mark.parametrize(
    "columns",
    [
        {"img": ONE, "label": [1]},
        {"image": ONE},
        {"image": ["a.png"], "label": [1]},
        {"image": [{"path": "a.png"}], "label": [1]},
        {"image": ONE, "label": [[1]]},
        {"image": ONE, "label": [0.5]},
    ],
)
def test_tables_of_another_schema_are_refused(columns, tmp_path):
    path = write_table(tmp_path / "a.parquet", **columns)
    refused(path, r"Expected a column image with bytes.*and a column label, in .*but found im")


@pytest.mark.parametrize("labels", [[3, -1], [None, 3]])
def test_rows_without_a_label_are_refused(labels, tmp_path):
    path = write_table(tmp_path / "a.parquet", image=ONE * 2, label=labels)
    refused(path, r"holds 2 pictures, but 1 of them have no label, such as a\.png.*another split")


def named(*classes):
    return {"huggingface": json.dumps({"info": {"features": {"label": {"names": classes}}}})}


def test_labels_beyond_the_names_of_classes_are_refused(tmp_path):
    path = write_table(tmp_path / "a.parquet", named("cat", "dog"), image=ONE, label=[2])
    refused(path, "has a label 2, but names 2 classes, 0 to 1")


@pytest.mark.parametrize("about", ["[]", "{", '{"info": 3}'])
def test_metadata_that_say_nothing_are_refused(about, tmp_path):
    path = write_table(tmp_path / "a.parquet", {"huggingface": about}, image=ONE, label=[2])
    refused(path, "has metadata of Hugging Face that name no classes")


def test_tables_of_two_data_sets_are_not_mixed(tmp_path):
    (tmp_path / "x").mkdir()
    write_table(tmp_path / "x" / "a.parquet", named("cat"), image=ONE, label=[0])
    write_table(tmp_path / "x" / "b.parquet", named("dog"), image=ONE, label=[0])
    refused(tmp_path / "x", r"b\.parquet has other names of classes than .*a\.parquet")


def test_a_table_without_rows_is_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    column = pa.array([], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    path = write_table(tmp_path / "a.parquet", image=column, label=pa.array([], pa.int64()))
    refused(path, r"Expected images.*in .*a\.parquet, but found none")


def test_damaged_pages_of_a_table_are_damaged_pictures(photos, tmp_path):
    path = write_parquet(photos, tmp_path / "a.parquet")
    import pyarrow.parquet as pq

    place = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    reasons = []
    for file in find_images(path).files:
        try:
            file.open().read()
        except Exception as error:
            reasons.append(str(error))
    assert len(reasons) in (1, 2)
    assert all("cannot be read (" in reason for reason in reasons)


def test_without_pyarrow_the_error_says_which_extra(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(600) + b"PAR1")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingLibraryError, match=r"PyArrow is not.*`patchcollide\[parquet\]`"):
        find_images(tmp_path / "a.parquet")


def test_a_class_that_is_not_there_ends_the_command(photos, tmp_path):
    words = [str(photos), "--where", "class-0,class-7"]
    for command in (["index", *words, "--out", str(tmp_path / "s")], ["plan", *words]):
        assert CliRunner().invoke(app, command).exit_code == 2
    assert not (tmp_path / "s").exists()


def test_an_archive_of_an_archive_of_archives_goes_no_deeper(photos, tmp_path):
    name, content = class_tars(photos)[0]
    path = write_tar(
        tmp_path / "a.tar", [("outer.tar", tar_bytes([(name, content), ("1.png", b"x")]))]
    )
    found = find_images(path)
    assert [file.name for file in found.files] == ["outer/1.png"]
    assert found.others == ("outer.tar: class-1.tar",)


def test_links_within_archives_are_counted_in_each(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive, "1.png", b"x")
        add(archive, "2.png", b"", type=tarfile.SYMTYPE, linkname="1.png")
    path = write_tar(tmp_path / "a.tar", [("cat.tar", buffer.getvalue())])
    assert find_images(path).num_links == 1
