import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import DataError, ImageError
from patchcollide.images.digits import download_mnist, read_digits, write_digits
from patchcollide.images.pictures import read_png


def write_mnist(folder, *, num=7, labels=None, side=28, zipped=True, split="t10k", dot=False):
    """Writes one part of a data set in MNIST's format; returns its images and labels."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (num, side, side), dtype=np.uint8)
    labels = np.arange(num, dtype=np.uint8) % 10 if labels is None else np.array(labels, np.uint8)
    folder.mkdir(exist_ok=True)
    for array, kind in ((images, "images-idx3-ubyte"), (labels, "labels-idx1-ubyte")):
        data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        name = f"{split}-{kind.replace('-idx', '.idx') if dot else kind}"
        content = data + array.tobytes()
        (folder / (name + ".gz" * zipped)).write_bytes(
            gzip.compress(content) if zipped else content
        )
    return images, labels


@pytest.mark.parametrize(("zipped", "dot"), [(True, False), (False, False), (False, True)])
def test_mnist_is_read_from_its_files(tmp_path, zipped, dot):
    images, labels = write_mnist(tmp_path / "m", zipped=zipped, dot=dot)
    digits = read_digits(tmp_path / "m", "test")
    np.testing.assert_array_equal(digits.images[..., 0], images)
    np.testing.assert_array_equal(digits.labels, labels)
    assert (digits.name, digits.split, len(digits)) == ("MNIST", "test", 7)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"labels": [1, 2]}, "found 7 images and 2 labels"),
        ({"side": 27}, "found 27 x 27"),
        ({"labels": [1, 2, 3, 4, 5, 6, 10]}, "labels of 0 to 9, but found 10"),
        ({"num": 0}, "found no labels"),
    ],
)
def test_files_that_are_not_of_one_data_set_are_refused(tmp_path, options, reason):
    write_mnist(tmp_path / "m", **options)
    with pytest.raises(DataError, match=reason):
        read_digits(tmp_path / "m", "test")


def test_a_folder_without_the_files_is_refused(tmp_path):
    write_mnist(tmp_path / "m")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        read_digits(tmp_path / "m", "train")


def test_bundled_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    original = load_digits()
    train, test = read_digits(None, "train"), read_digits(None, "test")
    assert len(train) + len(test) == len(original.target) == 1797
    assert len(test) == 359
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), original.target)
    images = np.concatenate([train.images, test.images])
    assert images.shape[1:] == (28, 28, 1)
    inner = images[:, 2:-2:3, 2:-2:3, 0]
    np.testing.assert_array_equal(inner, np.rint(original.images * 255 / 16))
    assert images.sum() == 9 * inner.astype(int).sum()


def test_pictures_are_written_by_label_and_only_once(tmp_path):
    digits = read_digits(None, "test")
    write_digits(tmp_path / "d", digits, 5)
    paths = sorted((tmp_path / "d").rglob("*.png"))
    assert len(paths) == 5
    for path in paths:
        number = int(path.stem.removeprefix("test-"))
        assert path.parent.name == str(digits.labels[number])
        np.testing.assert_array_equal(read_png(path), digits.images[number])
        with Image.open(path) as image:
            assert image.mode == "L"
    before = {path: path.stat().st_mtime_ns for path in paths}
    write_digits(tmp_path / "d", digits, 5)
    assert before == {path: path.stat().st_mtime_ns for path in paths}
    with pytest.raises(ImageError, match=r"count = 5 \(now 6\)"):
        write_digits(tmp_path / "d", digits, 6)
    write_digits(tmp_path / "all", digits, 10**6)
    assert len(list((tmp_path / "all").rglob("*.png"))) == 359


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    def offline(self):
        raise RuntimeError("no route")

    monkeypatch.setattr(MNIST, "download", offline)
    with pytest.raises(DataError, match=r"no route.*another machine"):
        download_mnist(tmp_path)
