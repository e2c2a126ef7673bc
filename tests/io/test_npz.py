"""Archives as NumPy writes them, as others write them, and as nobody should."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from patchcollide.errors import NetworkError
from patchcollide.io.npz import open_npz
from tests.helpers.pickles import Ran


def member(header: bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + header + data


def described(shape: str, descr: str = "'<f4'") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()


def archive_of(path, content: bytes, name: str = "a.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def read(path, shape):
    with open_npz(path, error=NetworkError) as archive:
        return archive.array("a", shape)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (3, 1, 4, 2)])
def test_arrays_come_back_as_float32(save, order, dtype, shape, rng, tmp_path):
    values = np.asarray(rng.normal(size=shape)).astype(dtype, order=order)
    save(tmp_path / "values.npz", a=values)
    found = read(tmp_path / "values.npz", shape)
    assert found.dtype == np.float32
    assert found.shape == shape
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_an_array_of_many_blocks_comes_back(rng, tmp_path):
    values = rng.normal(size=700_001).astype(np.float32)
    np.savez(tmp_path / "values.npz", a=values, b=values[:1])
    np.testing.assert_array_equal(read(tmp_path / "values.npz", values.shape), values)
    with open_npz(tmp_path / "values.npz", error=NetworkError) as archive:
        assert archive.names == ["a", "b"]
        assert archive.shape("b") == (1,)


def test_objects_are_refused_and_not_run(tmp_path):
    np.savez(tmp_path / "code.npz", a=np.array([Ran()], dtype=object))
    with pytest.raises(NetworkError, match=r"refused: 'a' holds Python objects, .*Save it as"):
        read(tmp_path / "code.npz", (1,))
    assert Ran.traces == ()


@pytest.mark.parametrize("values", [np.arange(3), np.array(["abc"]), np.zeros(3, complex)])
def test_other_types_are_refused(values, tmp_path):
    np.savez(tmp_path / "values.npz", a=values)
    with pytest.raises(NetworkError, match=rf"'a' should hold floating-point .* {values.dtype}"):
        read(tmp_path / "values.npz", values.shape)


def test_another_shape_is_refused_before_it_is_unpacked(tmp_path):
    path = archive_of(tmp_path / "huge.npz", member(described("(1000000000000,)"), bytes(10**8)))
    tracemalloc.start()
    with pytest.raises(NetworkError, match=r"should have shape \(4,\), but has \(10{12},\)"):
        read(path, (4,))
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_more_bytes_than_announced_are_refused_unpacked_only_in_part(tmp_path):
    path = archive_of(tmp_path / "bomb.npz", member(described("(4,)"), bytes(10**8)))
    tracemalloc.start()
    with pytest.raises(NetworkError, match=r"damaged at 'a' .it goes on after its 16 bytes"):
        read(path, (4,))
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged at 'a'"),
        (b"not an array", "damaged at 'a'"),
        (member(described("(4,)"), bytes(15)), "it ends after 15 of 16 bytes"),
        (member(described("(-1, 4)")), r"shape \(-1, 4\)"),
        (member(described("(4,)", "'nonsense'")), "damaged at 'a'"),
        (member(b"{" * 500), "damaged at 'a'"),
        (member(b" " * 20_000 + described("(4,)")), "damaged at 'a'"),
        (member(described("(4,)"), bytes(16), b"\x02\x00"), r"layout version \(2, 0\)"),
    ],
)
def test_damaged_arrays_are_refused(content, message, tmp_path):
    with pytest.raises(NetworkError, match=message):
        read(archive_of(tmp_path / "bad.npz", content), (4,))


def test_flipped_bits_are_noticed(rng, tmp_path):
    np.savez(tmp_path / "values.npz", a=rng.normal(size=1000))
    content = bytearray((tmp_path / "values.npz").read_bytes())
    content[4000] ^= 1
    (tmp_path / "values.npz").write_bytes(content)
    with pytest.raises(NetworkError, match=r"damaged at 'a' .Bad CRC-32"):
        read(tmp_path / "values.npz", (1000,))


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(NetworkError, match=r"none\.npz is missing\. Check the path"):
        read(tmp_path / "none.npz", (1,))
    (tmp_path / "text.npz").write_bytes(b"not an archive")
    with pytest.raises(NetworkError, match=r"text\.npz is damaged or not an \.npz file"):
        read(tmp_path / "text.npz", (1,))
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(NetworkError, match=r"cut\.npz is damaged or not an \.npz file"):
        read(tmp_path / "cut.npz", (3,))
    np.savez(tmp_path / "other.npz", b=np.zeros(3))
    with pytest.raises(NetworkError, match=r"other\.npz has no array 'a'"):
        read(tmp_path / "other.npz", (3,))
