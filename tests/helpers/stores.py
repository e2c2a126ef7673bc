"""Small stores, and changes to what their manifests say."""

import json

import pytest

from patchcollide.config_files import load_config
from patchcollide.io.hdf5 import write_hdf5
from patchcollide.io.provenance import self_digest
from patchcollide.io.seals import digest_without
from patchcollide.store import shards
from patchcollide.store.writer import write_store

SETTINGS = (
    "images.size_px=24",
    "patches.window_px=8",
    "patches.stride_px=4",
    "patches.patch_px=8",
    "retrieval.query_stride_px=4",
)


def config_with(*overrides):
    return load_config(overrides=[*SETTINGS, *overrides])


def manifest_of(store):
    return json.loads((store / "manifest.json").read_text())


def edit_manifest(store, change):
    manifest = manifest_of(store)
    change(manifest)
    manifest["digest"] = self_digest(manifest)
    (store / "manifest.json").write_text(json.dumps(manifest))


def own_up(store, number):
    """Makes a manifest say that a shard was written as it is now."""
    path = shard_files(store)[number]
    entry = manifest_of(store)["shards"][number]
    entry["num_bytes"] = path.stat().st_size
    entry["sha256_without_pixels"] = digest_without(path, *entry["pixel_bytes"])
    edit_manifest(store, lambda manifest: manifest["shards"].__setitem__(number, entry))


def shard_files(folder):
    return sorted(folder.glob("shard-*.h5"))


class Stop:
    """Lets a few shards be written, then raises."""

    def __init__(self, after, error):
        self.after, self.error, self.original = after, error, write_hdf5

    def __call__(self, path, **contents):
        if self.after == 0:
            raise self.error
        self.after -= 1
        return self.original(path, **contents)


def stop_after(num, config, images, out, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(shards, "write_hdf5", Stop(num, KeyboardInterrupt("stop")))
        with pytest.raises(KeyboardInterrupt, match="stop"):
            write_store(config, images, out)
