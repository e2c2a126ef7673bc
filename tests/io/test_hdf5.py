"""HDF5 files: what was written comes back, and anything else is refused by file and key."""

import json

import h5py
import numpy as np
import pytest

from patchcollide.errors import RunError, StoreError
from patchcollide.io.hdf5 import open_hdf5, write_hdf5

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def write(path, datasets=None, attributes=None):
    write_hdf5(
        path, encoding="kind", version="1", datasets=datasets or {}, attributes=attributes or {}
    )


def opened(path, error=StoreError):
    return open_hdf5(path, encoding="kind", version="1", error=error)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


@pytest.fixture
def edited(path):
    """A whole file, opened for another program to put something else into it."""
    write(path, {"pixels": PIXELS, "names": ["a", "b"]})
    with h5py.File(path, "r+") as file:
        yield file


@pytest.mark.parametrize("length", [0, 1, 2, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int64, np.float32])
def test_arrays_come_back(path, length, dtype, rng):
    array = rng.integers(0, 2, (length, 3)).astype(dtype)
    write(path, {"array": array})
    with opened(path) as file:
        found = file.array("array", dtype, (None, 3))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize("strings", [[], ["a"], ["", "é\n", "x" * 10_000]])
def test_strings_come_back(path, strings):
    write(path, {"strings": strings})
    with opened(path) as file:
        assert file.strings("strings") == strings
        assert file.strings("strings", len(strings)) == strings


@pytest.mark.parametrize(
    "value",
    [0, -(2**62), 2.5, True, "", "text", "[", '{"', '"', "null", None, [], [1, "é"], {"a": [None]}],
    ids=repr,
)
def test_attributes_come_back(path, value):
    write(path, attributes={"value": value})
    with opened(path) as file:
        found = file.attribute("value")
    assert found == value
    assert type(found) is type(value)


def test_attributes_may_be_far_larger_than_64_kilobytes(path):
    invalid = [{"image": number, "reason": "damaged " * 10} for number in range(2000)]
    assert len(json.dumps(invalid)) > 3 * 65536
    write(path, attributes={"invalid": invalid})
    with opened(path) as file:
        assert file.attribute("invalid") == invalid


def test_a_map_shows_the_bytes_of_the_file(path):
    write(path, {"first": np.ones(5), "pixels": PIXELS}, {"note": "x" * 100_000})
    with opened(path) as file:
        pixels = file.memory_map("pixels", np.uint8, (None, 4, 3)).array()
    assert isinstance(pixels, np.memmap)
    assert np.array_equal(pixels, PIXELS)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


def test_equal_contents_give_equal_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, {"pixels": PIXELS, "names": ["a"]}, {"x": [1], "y": 2})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_writer_that_fails_keeps_the_old_file(path):
    write(path, {"pixels": PIXELS})
    before = path.read_bytes()
    with pytest.raises(TypeError, match="Object dtype"):
        write(path, {"pixels": np.array([object()])})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("error", [StoreError, RunError])
def test_a_missing_file_is_refused(path, error):
    with pytest.raises(error, match=r"a\.h5 is missing. Check the path"), opened(path, error):
        pass


@pytest.mark.parametrize("content", [b"", b"x", b"\x89HDF\r\n\x1a\n", b"not HDF5 " * 1000])
def test_a_file_that_is_not_hdf5_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.h5 is not a readable HDF5 file"), opened(path):
        pass


@pytest.mark.parametrize("missing", [1, 2, 5000, 99_000])
def test_a_truncated_file_is_refused(path, missing):
    write(path, {"pixels": np.ones(100_000, np.uint8)})
    path.write_bytes(path.read_bytes()[:-missing])
    # Cut off within its seal, nothing is missing that HDF5 would miss.
    what = "damaged: it does not hold the bytes that were written"
    message = rf"a\.h5 is {what if missing < 64 else 'not a readable .*truncated file'}"
    with pytest.raises(StoreError, match=message), opened(path):
        pass


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({}, "'None' version None"),
        ({"encoding-type": "kind"}, "'kind' version None"),
        ({"encoding-type": "kind", "encoding-version": "2"}, "'kind' version 2"),
        ({"encoding-type": "other", "encoding-version": "1"}, "'other' version 1"),
        ({"encoding-type": np.ones(2), "encoding-version": "1"}, r"'\[1\. 1\.\]' version 1"),
    ],
)
def test_another_kind_or_version_is_refused_by_name(path, attributes, found):
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
    message = rf"a\.h5 should be 'kind' version 1, but is {found}\. Make it again"
    with pytest.raises(StoreError, match=message), opened(path):
        pass


def test_a_missing_dataset_or_attribute_is_refused_by_name(path):
    write(path, {"pixels": PIXELS})
    with opened(path) as file:
        for read in (
            lambda: file.array("none", np.uint8, (None,)),
            lambda: file.memory_map("none", np.uint8, (None,)),
            lambda: file.strings("none"),
        ):
            with pytest.raises(StoreError, match=r"a\.h5 has no dataset 'none'"):
                read()
        with pytest.raises(StoreError, match=r"a\.h5 has no attribute 'none'"):
            file.attribute("none")


@pytest.mark.parametrize("shape", [(2,), (2, 4), (2, 4, 4), (1, 4, 3), (2, 4, 3, 1), (None, None)])
def test_another_shape_is_refused_by_name(path, shape):
    write(path, {"pixels": PIXELS})
    with opened(path) as file:
        for read in (file.array, file.memory_map):
            with pytest.raises(
                StoreError, match=r"a\.h5: 'pixels' should have shape .*\(2, 4, 3\)"
            ):
                read("pixels", np.uint8, shape)


def test_another_type_is_refused_by_name(path):
    write(path, {"pixels": PIXELS, "names": ["a"], "more": ["a", "b"]})
    with opened(path) as file:
        with pytest.raises(StoreError, match=r"a\.h5: 'pixels' should be float32, but is uint8"):
            file.array("pixels", np.float32, (2, 4, 3))
        with pytest.raises(
            StoreError, match=r"a\.h5: 'pixels' should be a contiguous int8 dataset"
        ):
            file.memory_map("pixels", np.int8, (2, 4, 3))
        with pytest.raises(StoreError, match=r"a\.h5: 'names' should be uint8, but is object"):
            file.array("names", np.uint8, (1,))
        with pytest.raises(
            StoreError, match=r"a\.h5: 'more' should have shape \(1,\), but has \(2"
        ):
            file.strings("more", 1)


def test_numbers_in_place_of_strings_are_refused(path):
    write(path, {"names": np.ones(2, np.uint8)})
    with (
        opened(path) as file,
        pytest.raises(StoreError, match=r"a\.h5: 'names' should hold strings, not uint8"),
    ):
        file.strings("names")


@pytest.mark.parametrize("kind", ["soft", "external", "dangling"])
def test_links_are_not_followed(path, edited, tmp_path, kind):
    write(tmp_path / "other.h5", {"pixels": PIXELS})
    edited["link"] = {
        "soft": h5py.SoftLink("/pixels"),
        "external": h5py.ExternalLink(str(tmp_path / "other.h5"), "pixels"),
        "dangling": h5py.SoftLink("/nowhere"),
    }[kind]
    assert kind == "dangling" or np.array_equal(edited["link"], PIXELS)
    edited.close()
    refuses_to_read(path, "link", r"a\.h5 has no dataset 'link'")


def test_a_dataset_stored_in_another_file_is_refused(path, edited, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret" * 4)
    edited.create_dataset(
        "other", shape=(2, 4, 3), dtype=np.uint8, external=[(str(tmp_path / "secret"), 0, 24)]
    )
    edited.close()
    refuses_to_read(path, "other", r"a\.h5: 'other' is not a dataset stored in the file itself")


def test_a_virtual_dataset_is_refused(path, edited, tmp_path):
    write(tmp_path / "other.h5", {"pixels": PIXELS})
    layout = h5py.VirtualLayout(shape=(2, 4, 3), dtype=np.uint8)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "pixels", shape=(2, 4, 3))
    edited.create_virtual_dataset("other", layout)
    edited.close()
    refuses_to_read(path, "other", r"a\.h5: 'other' is not a dataset stored in the file itself")


def test_a_group_is_refused(path, edited):
    edited.create_group("group")
    edited.close()
    refuses_to_read(path, "group", r"a\.h5: 'group' is not a dataset stored in the file itself")


def refuses_to_read(path, name, message):
    with opened(path) as file:
        for read in (file.array, file.memory_map):
            with pytest.raises(StoreError, match=message):
                read(name, np.uint8, (2, 4, 3))
        with pytest.raises(StoreError, match=message):
            file.strings(name)


@pytest.mark.parametrize("options", [{"chunks": (1, 4, 3)}, {"compression": "gzip"}])
def test_only_a_contiguous_dataset_is_mapped(path, edited, options):
    edited.create_dataset("other", data=PIXELS, **options)
    edited.close()
    with opened(path) as file:
        assert np.array_equal(file.array("other", np.uint8, (2, 4, 3)), PIXELS)
        with pytest.raises(
            StoreError, match=r"a\.h5: 'other' should be a contiguous uint8 dataset"
        ):
            file.memory_map("other", np.uint8, (2, 4, 3))


def test_a_compact_dataset_is_not_mapped(path, edited):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((2, 4, 3))
    h5py.h5d.create(edited.id, b"other", h5py.h5t.NATIVE_UINT8, space, creation)
    edited.close()
    with (
        opened(path) as file,
        pytest.raises(StoreError, match=r"a\.h5: 'other' should be a contiguous uint8 dataset"),
    ):
        file.memory_map("other", np.uint8, (2, 4, 3))


def test_damaged_bytes_are_refused_by_file_and_key(path, edited):
    edited.create_dataset("packed", data=np.arange(1000), compression="gzip")
    where = edited["packed"].id.get_chunk_info(0)
    edited["text"] = np.array([b"\xff\xfe"], dtype=h5py.string_dtype())
    edited.attrs["broken"] = '{"a": '
    edited.close()
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + 20] = b"\xff" * 20
    path.write_bytes(content)
    with opened(path) as file:
        with pytest.raises(StoreError, match=r"a\.h5 is damaged at 'packed' \("):
            file.array("packed", np.int64, (1000,))
        with pytest.raises(StoreError, match=r"a\.h5 is damaged at 'text' \(.*can't decode"):
            file.strings("text")
        with pytest.raises(StoreError, match=r"a\.h5 is damaged at 'broken' \(Expecting value"):
            file.attribute("broken")
