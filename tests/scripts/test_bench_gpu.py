"""The benchmark for GPUs: without one it says so, and tried on the processor it runs."""

import importlib

import pytest
import torch

from patchcollide.config_files import load_config
from patchcollide.store.index_builder import build_index
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.scripts.test_benchmarks import assert_knows_its_machine, run

__all__ = ["run"]

SETTINGS = [*SMALL, "index.components=8", "images.size_px=28", "optimiser.num_vertices=2"]
SETTINGS += ["network.name=lenet5", "network.weights=random", "network.layer=fc1"]
SETTINGS += ["evaluation.num_samples=16", "objective.hull_samples=2"]


def test_without_a_gpu_it_says_so_in_a_sentence(run, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        run("bench_gpu")
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ConfigError: This benchmark is for a GPU, but PyTorch finds none")
    assert len(said.err.splitlines()) == 1


def test_every_path_is_measured_on_both_and_compared(run, write_images, tmp_path):
    """The processor stands for the card: all of the script but the card itself is tried."""
    config = load_config(overrides=SETTINGS)
    store = write_store(config, write_images(num=12), tmp_path / "store")
    build_index(store, config.index, seed=0)
    words = ["--device", "cpu", "--store", store.path, "--steps", 2, "--repeat", 1]
    document = run("bench_gpu", *words, *(word for each in SETTINGS for word in ("--set", each)))
    assert_knows_its_machine(document)
    names = {"products", "exact", "certified", "index", "collide", "evaluate"}
    assert document["paths"].keys() == names
    assert document["all_agree"]
    for found in document["paths"].values():
        assert found["ratio"] > 0
        assert found["processor"]["seconds"]["best"] > 0
    assert len(document["table"]) == 2 + len(names)


@pytest.mark.parametrize(
    ("name", "expected", "found"),
    [
        ("products", [1, 2], [1, 3]),
        ("index", 1.0, 0.5),
        ("collide", [1.0], [1.1]),
        ("evaluate", [1.0, 0.5, 9.0], [1.0, 0.4, 9.0]),
    ],
)
def test_answers_that_differ_are_told(name, expected, found):
    compare = importlib.import_module("bench_gpu").compare
    assert compare(name, expected, expected)["agree"]
    assert not compare(name, expected, found)["agree"]
