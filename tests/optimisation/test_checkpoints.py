"""Descents go on bit for bit from their checkpoints, which are refused when damaged."""

import signal

import h5py
import numpy as np
import pytest
import torch

from patchcollide.composition.parameterisations import FreePixels
from patchcollide.errors import InterruptedWorkError, RunError
from patchcollide.io.hdf5 import write_hdf5
from patchcollide.optimisation.checkpoints import ENCODING, VERSION, Checkpoint
from patchcollide.optimisation.descent import find_vertices
from patchcollide.randomness import seeded
from tests.helpers.descents import KINDS, at_step, batches_seen, parameterise, task_for
from tests.helpers.pictures import picture


def without_seconds(history):
    return [{name: row[name] for name in row if name != "seconds"} for row in history]


def test_the_weight_of_distance_is_kept_with_the_state(small_network):
    task = task_for(
        small_network, learning_rate=1e-30, stop_probability=0.5, objective={"diversity": 2.0}
    )
    still = FreePixels(picture(2), num_vertices=2, output_size=32, noise=0.0, generator=seeded(0))
    _, progress = find_vertices(task, still)
    checked = [row["diversity"] for row in progress.history if "diversity" in row]
    assert checked == [2.0, 3.0]
    assert progress.weights["diversity"] == pytest.approx(4.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_authors_descent_goes_on_bit_for_bit_too(small_network, kind, tmp_path):
    task = task_for(
        small_network, method="authors", learning_rate=1e-4, objective={"penalty": "absolute"}
    )
    expected, _ = find_vertices(task, parameterise(kind))
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    hook = at_step(small_network, 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(InterruptedWorkError, match="Stopped after 4 of 6 steps"):
        find_vertices(task, parameterise(kind), checkpoint)
    hook.remove()
    vertices, _ = find_vertices(task, parameterise(kind, seed=99), checkpoint)
    assert torch.equal(vertices, expected)


@pytest.mark.parametrize(
    ("kind", "number"), [("pixels", signal.SIGTERM), ("patches", signal.SIGINT)]
)
@pytest.mark.parametrize("stopped_at", [1, 3, 6])
def test_an_interrupted_descent_goes_on_bit_for_bit(
    small_network, kind, number, stopped_at, tmp_path
):
    task = task_for(small_network, checkpoint_every=2)
    expected, uninterrupted = find_vertices(task, parameterise(kind))
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint.h5", "a")
    hook = at_step(small_network, stopped_at, lambda: signal.raise_signal(number))
    with pytest.raises(InterruptedWorkError, match=f"Stopped after {stopped_at} of 6 steps"):
        find_vertices(task, parameterise(kind), checkpoint)
    hook.remove()
    # Another start, to show that all comes from the file.
    vertices, progress = find_vertices(task, parameterise(kind, seed=99), checkpoint)
    assert torch.equal(vertices, expected)
    assert without_seconds(progress.history) == without_seconds(uninterrupted.history)
    assert progress.stopped_because == uninterrupted.stopped_because


def test_a_descent_killed_between_checkpoints_repeats_only_what_was_lost(small_network, tmp_path):
    task = task_for(small_network, checkpoint_every=2, validation_samples=4)
    expected, uninterrupted = find_vertices(task, parameterise("patches"))
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")

    def power_cut():
        raise OSError("power cut")

    hook = at_step(small_network, 6, power_cut)
    with pytest.raises(OSError, match="power cut"):
        find_vertices(task, parameterise("patches"), checkpoint)
    hook.remove()
    seen = batches_seen(small_network)
    vertices, progress = find_vertices(task, parameterise("patches"), checkpoint)
    assert torch.equal(vertices, expected)
    assert without_seconds(progress.history) == without_seconds(uninterrupted.history)
    assert len([batch for batch in seen if len(batch) == 8]) == 2


def test_the_end_of_a_descent_is_kept_until_its_vertices_are_written(small_network, tmp_path):
    task = task_for(small_network, checkpoint_every=4)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    expected, _ = find_vertices(task, parameterise("patches"), checkpoint)
    seen = batches_seen(small_network)
    vertices, progress = find_vertices(task, parameterise("patches", seed=99), checkpoint)
    assert torch.equal(vertices, expected)
    assert progress.step == 6
    assert not seen


@pytest.mark.parametrize("stopped_at", [4])
def test_a_checkpoint_of_another_run_is_refused_and_left_alone(small_network, stopped_at, tmp_path):
    task = task_for(small_network, checkpoint_every=2)
    path = tmp_path / "checkpoint.h5"
    find_vertices(task, parameterise("pixels"), Checkpoint(path, "a"))
    content = path.read_bytes()
    with pytest.raises(RunError, match=r"state of another run\. Remove .* or choose another --out"):
        find_vertices(task, parameterise("pixels"), Checkpoint(path, "b"))
    assert path.read_bytes() == content


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path):
    path.write_bytes(b"not a checkpoint")


def change(name, value):
    def edit(path):
        with h5py.File(path, "r+") as file:
            del file[name]
            if value is not None:
                file[name] = value

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "not a readable HDF5 file"),
        (overwrite, "not a readable HDF5 file"),
        (change("exp_avg", None), "has no dataset 'exp_avg'"),
        (change("parameter", np.zeros((2, 2), np.float32)), "'parameter' should have shape"),
        (change("generator", np.zeros(3, np.uint8)), "is damaged .* Remove it"),
        (change("state", ["{"]), "is damaged .* Remove it"),
        (change("state", np.zeros(0, h5py.string_dtype())), "is damaged .* Remove it"),
    ],
)
def test_a_damaged_checkpoint_is_refused(small_network, damage, message, tmp_path):
    task = task_for(small_network, checkpoint_every=2)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    find_vertices(task, parameterise("pixels"), checkpoint)
    damage(checkpoint.path)
    with pytest.raises(RunError, match=message):
        find_vertices(task, parameterise("pixels"), checkpoint)


def test_a_checkpoint_of_a_later_version_is_refused(small_network, tmp_path):
    path = tmp_path / "checkpoint.h5"
    write_hdf5(path, encoding=ENCODING, version=VERSION + "0", datasets={}, attributes={})
    with pytest.raises(RunError, match=f"should be '{ENCODING}' version {VERSION}"):
        find_vertices(task_for(small_network), parameterise("pixels"), Checkpoint(path, "a"))
