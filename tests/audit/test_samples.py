"""The images that an audit looks at: seeded samples, bad files and folders, single classes."""

import numpy as np
import pytest

from patchcollide.audit.samples import draw_sample
from patchcollide.config_files import load_config
from patchcollide.errors import ImageError
from patchcollide.images.pictures import write_png


def test_the_sample_is_seeded_and_a_smaller_one_is_part_of_a_larger(network, folder):
    def names(*overrides):
        sample = draw_sample(load_config(overrides=overrides), network, folder)
        return {image.name for image in sample.images}

    small = names("audit.per_class=2")
    assert len(small) == 4
    assert small == names("audit.per_class=2")
    assert small < names("audit.per_class=4")
    assert any(small != names("audit.per_class=2", f"seed={seed}") for seed in range(1, 5))


def test_images_that_cannot_be_read_are_left_out_and_listed(make, folder, tmp_path):
    (folder / "day" / "broken<b>.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    write_png(folder / "day" / "large.png", np.full((9, 12, 3), 90, np.uint8))
    found = make(tmp_path / "audit")
    assert len(found["images"]) == 11
    (skipped,) = found["skipped"]
    assert skipped["name"] == "day/broken<b>.png"
    assert "damaged" in skipped["reason"]
    fitted = [row["name"] for row in found["images"] if row["is_fitted"]]
    assert fitted == ["day/large.png"]
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "day/broken&lt;b&gt;.png" in page
    assert "<b>" not in page


def test_bad_folders_are_refused(make, folder, tmp_path):
    (tmp_path / "only").mkdir()
    folder.rename(tmp_path / "only" / "images")
    with pytest.raises(ImageError, match=r"two classes.*found one, 'images'.*--one-class"):
        make(tmp_path / "audit", images=tmp_path / "only")
    flat = tmp_path / "only" / "images" / "day"
    with pytest.raises(ImageError, match="found none: its images lie in no folder of a class"):
        make(tmp_path / "audit", images=flat)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match="but found none, only 0 other files"):
        make(tmp_path / "audit", images=empty)
    (empty / "a.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"None of the 1 images drawn from .*a\.png"):
        make(tmp_path / "audit", images=empty)
    assert not (tmp_path / "audit.partial").exists()


def test_one_class_is_audited_when_asked_for(make, folder, tmp_path):
    found = make(tmp_path / "audit", images=folder / "day", one_class=True)
    assert len(found["images"]) == 5
    assert found["classes"][0]["label"] == ""
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "classes cannot be compared" in page
    one = tmp_path / "one"
    one.mkdir()
    (folder / "night" / "9.png").rename(one / "9.png")
    found = make(tmp_path / "single", images=one, one_class=True)
    assert found["data_distance"] is None
    assert len(found["trust"]["bins"]) == 1
    assert found["adequacy"]["interval"] is None
    page = " ".join((tmp_path / "single" / "report.html").read_text().split())
    assert "no interval, since one image does not show how much others would differ" in page
    assert "one image</td>" in page
