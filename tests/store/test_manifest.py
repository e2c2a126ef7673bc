"""A manifest is kept twice, and damage to either copy, or beside them, is found and repaired."""

import json

import pytest

from patchcollide import pipeline
from patchcollide.errors import StoreError
from patchcollide.io.provenance import self_digest
from patchcollide.store.reader import PatchStore
from tests.helpers.indexed_stores import CONFIG, INDEX_FILES, damages, flip
from tests.helpers.killing import contents


@pytest.mark.parametrize("name", ["manifest.json", "manifest.backup.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00" * 100])
def test_a_manifest_is_taken_from_its_other_copy(store, name, content):
    before = contents(store)
    (store / name).unlink()
    if content is not None:
        (store / name).write_bytes(content)
    assert damages(store).keys() == {name}
    pipeline.repair(store)
    assert contents(store) == before


def test_a_damaged_manifest_is_refused_by_readers_with_what_to_do(store):
    text = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(text.replace('"num_images": 11', '"num_images": 10'))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged .* `patchcollide repair "):
        PatchStore.open(store)
    (store / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"its copy .* is there\. Run `patchcollide repair "):
        PatchStore.open(store)


def test_a_manifest_that_is_only_written_otherwise_is_found(store):
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest))
    assert "not written as it was" in damages(store)["manifest.json"]


def test_copies_that_differ_are_found_and_the_first_is_right(store):
    before = contents(store)
    older = json.loads((store / "manifest.backup.json").read_text())
    older["folder"] = "/older"
    older["digest"] = self_digest(older)
    (store / "manifest.backup.json").write_text(json.dumps(older, indent=2) + "\n")
    assert "not the copy" in damages(store)["manifest.backup.json"]
    pipeline.repair(store)
    assert contents(store) == before


def test_shards_outlive_both_copies_of_the_manifest(store, original):
    before = contents(store)
    for name in ("manifest.json", "manifest.backup.json"):
        flip(store / name, 40)
    with pytest.raises(StoreError, match=r"Rename .*store to .*store\.partial, remove .* there"):
        pipeline.repair(store)
    partial = store.rename(store.with_name("store.partial"))
    for name in INDEX_FILES:
        (partial / name).unlink()
    inodes = {path.name: path.stat().st_ino for path in partial.glob("shard-*")}
    pipeline.index(CONFIG, original / "images", store)
    assert {path.name: path.stat().st_ino for path in store.glob("shard-*")} == inodes
    assert contents(store) == before
