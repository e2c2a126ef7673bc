import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from patchcollide.errors import DataError
from patchcollide.images.digits import read_idx


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@given(
    array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0)), zipped=st.booleans()
)
def test_what_was_written_is_read(tmp_path_factory, array, zipped):
    path = tmp_path_factory.mktemp("idx") / "a"
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data) if zipped else data)
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


IMAGES = idx_bytes(np.zeros((2, 3, 4), np.uint8))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "starts with nothing"),
        (IMAGES[:10], "starts with 00000803"),
        (IMAGES[:-1], "should hold 24 bytes.*holds only 23"),
        (IMAGES + b"x", "should hold 24 bytes.*holds more"),
        (idx_bytes(np.zeros(3, np.uint8)), "3 dimensions.*starts with 00000801"),
        (b"\0\0\x0d\x03" + IMAGES[4:], "unsigned bytes.*starts with 00000d03"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**20, 2**20, 1), "announces the shape"),
        (gzip.compress(IMAGES, mtime=0)[:-9], "cannot be read"),
        (gzip.compress(IMAGES, mtime=0)[:10] + b"\xff" * 30, "cannot be read"),
    ],
)
def test_damaged_files_are_refused(tmp_path, data, reason):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is missing"):
        read_idx(tmp_path / "nowhere", 1)


def test_a_bomb_is_not_unpacked_further_than_announced(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(IMAGES + bytes(50_000_000)))
    with pytest.raises(DataError, match="holds more"):
        read_idx(path, 3)
