"""Files are written whole or not at all; what a result came from is told apart."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import patchcollide
from patchcollide.errors import DiskFullError, RunError, StoreError
from patchcollide.io.files import partial_path, read_json, write_json, write_text, written_beside
from patchcollide.io.provenance import array_digest, differences, file_digest, fingerprint, versions

WITH_LIMITED_FILES = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from patchcollide.errors import DiskFullError
from patchcollide.io.files import write_text
from patchcollide.io.hdf5 import write_hdf5

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
limit = resource.getrlimit(resource.RLIMIT_FSIZE)

def pixels(num):
    return {"images": np.ones(num, np.uint8)}

def write(name, datasets, attributes=None):
    write_hdf5(folder / name, encoding="x", version="1", datasets=datasets,
               attributes=attributes or {})

attempts = {
    "text": lambda: write_text(folder / "a.txt", "x" * 200_000),
    "pixels": lambda: write("a.h5", pixels(200_000)),
    "strings": lambda: write("b.h5", {"names": ["x" * 1000] * 300}),
    "pixels, then strings": lambda: write("c.h5", {**pixels(95_000), "names": ["x" * 90] * 100}),
    "many": lambda: write("d.h5", {f"{i}": np.ones(5000, np.uint8) for i in range(30)}),
    "attributes": lambda: write("e.h5", {}, {"a": ["x" * 1000] * 200}),
    "over an older one": lambda: write("old.h5", pixels(200_000)),
}
for name, attempt in attempts.items():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        attempt()
    except DiskFullError as error:
        assert "Free some disk" in str(error) and "File too large" in str(error), error
    else:
        raise SystemExit(f"{name}: no error")
    assert sorted(path.name for path in folder.iterdir()) == ["old.h5"], name
# HDF5 must still work, here and at the end of the process.
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
write("after.h5", pixels(200_000))
print("done")
"""


def test_a_disk_that_fills_up_is_explained_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "old.h5").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", WITH_LIMITED_FILES, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert (tmp_path / "old.h5").read_bytes() == b"old"
    assert (tmp_path / "after.h5").stat().st_size > 200_000


def write_then_raise(path, error):
    with written_beside(path) as partial:
        partial.write_text("half")
        raise error


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("as_text", [False, True])
def test_every_way_to_say_that_a_disk_is_full_becomes_a_disk_full_error(tmp_path, code, as_text):
    path = tmp_path / "a.bin"
    text = os.strerror(code)
    error = RuntimeError(f"write failed: {text}") if as_text else OSError(code, text)
    with pytest.raises(DiskFullError, match=r"No space to write .*a\.bin .*run the same com"):
        write_then_raise(path, error)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(OSError, match="Input/output error"), written_beside(tmp_path / "a"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_writer_that_fails_keeps_the_old_file_and_leaves_no_half_one(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error, match="stop"):
        write_then_raise(path, error("stop"))
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    old = path.stat().st_ino
    with path.open() as reader:
        with written_beside(path) as partial:
            assert partial == partial_path(path) == tmp_path / "a.txt.partial"
            partial.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert path.stat().st_ino != old
        assert reader.read() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"a\.txt\.partial"),
        written_beside(tmp_path / "a.txt"),
    ):
        pass


def test_folders_on_the_way_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "é\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"\xc3\xa9\n"


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"b": [1, 2.5, None, "é"], "a": {"c": []}}])
def test_json_comes_back(tmp_path, value):
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", error=RunError) == value
    assert (tmp_path / "a.json").read_text().endswith("\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_without_a_standard_form_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RunError, StoreError])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.json is missing. Check the path, or make it again"),
        (b"", r"a\.json cannot be read \(Expecting value"),
        (b'{"a": ', r"a\.json cannot be read \(Expecting value"),
        (b'{"a": "\xff"}', r"a\.json cannot be read \(.*can't decode"),
        (b"[" * 200_000, r"a\.json cannot be read \(maximum recursion"),
        (b'{"a": ' + b"9" * 5000 + b"}", r"a\.json cannot be read \(Exceeds the limit"),
        (b"[1]", r"a\.json should hold a JSON object, but holds a list"),
        (b"1", r"a\.json should hold a JSON object, but holds a int"),
        (b"null", r"a\.json should hold a JSON object, but holds a NoneType"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_that_cannot_be_used_is_refused_by_name(tmp_path, content, message, error):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(error, match=message):
        read_json(tmp_path / "a.json", error=error)


def test_json_that_is_too_large_is_refused_unread(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json", error=RunError, max_bytes=8) == {"a": 1}
    with pytest.raises(RunError, match=r"a\.json is larger than 7 bytes"):
        read_json(tmp_path / "a.json", error=RunError, max_bytes=7)


def test_a_folder_in_place_of_json_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"cannot be read .*directory"):
        read_json(tmp_path, error=RunError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON)
def test_equal_values_have_equal_fingerprints_whatever_their_order(value):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(list(value))}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert fingerprint(turned(value)) == fingerprint(value)
    assert fingerprint(json.loads(json.dumps(value))) == fingerprint(value)
    assert fingerprint([value]) != fingerprint(value)


def test_a_fingerprint_of_nothing_definite_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"a": float("nan")})


def test_array_digests_tell_type_shape_and_bytes_apart(rng):
    array = rng.integers(0, 256, (2, 3), dtype=np.uint8)
    changed = array.copy()
    changed[1, 2] += 1
    others = [array.T, array.reshape(3, 2), array.ravel(), array.view(np.int8), changed]
    assert len({array_digest(other) for other in [array, *others]}) == 6
    assert array_digest(np.asfortranarray(array)) == array_digest(array)
    expected = hashlib.sha256(b"|u1(2, 3)" + bytes(array.ravel().tolist())).hexdigest()
    assert array_digest(array) == expected


@pytest.mark.parametrize("size", [0, 1, 100_001])
def test_a_file_digest_is_that_of_its_bytes(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert file_digest(tmp_path / "a") == hashlib.sha256(content[:size]).hexdigest()


def test_differences_name_the_place_and_both_values():
    expected = {"a": {"b": 1, "c": [1, 2], "same": 0}, "d": "x", "only": True}
    found = {"a": {"b": 2, "c": [1, 3], "same": 0}, "d": {"e": 1}, "new": None, "more": 1}
    assert differences(expected, found) == [
        "a.b: found 2, expected 1",
        "a.c: found [1, 3], expected [1, 2]",
        'd: found {"e": 1}, expected "x"',
        "more: found 1, expected null",
        "only: found null, expected true",
    ]
    assert differences(expected, expected) == []


def test_versions_name_what_decides_a_result():
    found = versions()
    assert found["patchcollide"] == patchcollide.__version__
    assert found["numpy"] == np.__version__
    assert {"python", "torch", "h5py", "pillow"} <= found.keys()
