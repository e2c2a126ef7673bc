"""Animations show combinations of vertices and nothing else, exactly where the format allows it."""

import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from typer.testing import CliRunner

from patchcollide.api import find_polytope
from patchcollide.cli.framework import app
from patchcollide.errors import ImageError, RunError
from patchcollide.evaluation.simplex import tour
from patchcollide.images.animations import captioned, write_animation
from patchcollide.runs.animate import tour_frames, write_tour
from patchcollide.runs.folder import open_run

FAST = {
    "optimiser.num_vertices": 3,
    "optimiser.steps": 4,
    "optimiser.validation_samples": 4,
    "evaluation.batch_size": 16,
    "evaluation.num_samples": 20,
    "evaluation.check_samples": 40,
    "evaluation.null_samples": 40,
    "network.min_confidence": 0,
    "network.weights": "random",
}


@pytest.fixture
def run(tmp_path):
    source, target = np.random.default_rng(2).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    found = find_polytope("lenet5", "fc1", source, target, settings=FAST)
    return open_run(found.save(tmp_path / "run"))


def frames_of(path):
    with Image.open(path) as opened:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(opened)]
        return frames, opened.info


@pytest.mark.parametrize(("count", "channels", "size"), [(1, 3, 224), (2, 1, 28), (5, 3, 32)])
def test_frames_are_the_combinations_rounded(count, channels, size):
    rng = np.random.default_rng(count)
    vertices = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    frames = tour_frames(vertices, 3)
    weights = tour(count, 3)
    assert len(frames) == len(weights)
    times = frames[0].shape[0] // size
    assert times == max(1, round(224 / size))
    for frame, row in zip(frames, weights, strict=True):
        small = frame[::times, ::times]
        np.testing.assert_array_equal(small.repeat(times, 0).repeat(times, 1), frame)
        expected = np.tensordot(row, vertices.astype(np.float64), axes=1)
        # A half may be rounded either way.
        assert np.abs(small - expected).max() <= 0.5 + 1e-4
    for number, vertex in enumerate(vertices):
        (corner,) = np.flatnonzero(weights[:, number] == 1)[:1]
        shown = frames[corner][::times, ::times]
        np.testing.assert_array_equal(shown, np.broadcast_to(vertex, shown.shape))


def test_captions_stand_beneath_and_name_what_the_network_sees(small_network, monkeypatch):
    vertices = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    said = []

    def spy(image, lines):
        said.append(lines)
        return captioned(image, lines)

    monkeypatch.setattr("patchcollide.runs.animate.captioned", spy)
    plain, with_words = tour_frames(vertices, 2), tour_frames(vertices, 2, small_network)
    for frame, worded in zip(plain, with_words, strict=True):
        np.testing.assert_array_equal(worded[: len(frame)], frame)
        assert len(worded) > len(frame)
        assert (worded[len(frame) :] < 128).any()
    edge, inwards, back = [
        "vertex 0 to vertex 1",
        "vertex 1 to the centre",
        "the centre to vertex 0",
    ]
    assert [leg for leg, _ in said] == [edge, edge, edge, inwards, inwards, back, back]
    for frame, (_, words) in zip(plain, said, strict=True):
        with torch.no_grad():
            batch = torch.from_numpy(frame[::7, ::7].copy()).permute(2, 0, 1)[None] / 255
            chance, index = small_network.probabilities(batch)[0].max(dim=0)
        name, number = words.split()
        assert name == small_network.class_names[int(index)]
        assert float(number) == pytest.approx(float(chance), abs=0.001)


def test_webp_keeps_every_value(run, tmp_path):
    path = write_tour(run, tmp_path / "tour.webp", samples_per_leg=2, with_captions=False)
    read, info = frames_of(path)
    made = tour_frames(np.stack([np.array(Image.open(p))[..., None] for p in vertex_files(run)]), 2)
    assert len(read) == len(made)
    for found, expected in zip(read, made, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert info["loop"] == 0


def vertex_files(run):
    return sorted(run.folder.glob("vertex-*.png"))


def test_gif_of_grey_digits_is_exact_and_as_fast_as_asked(run, tmp_path):
    path = write_tour(
        run, tmp_path / "tour.gif", samples_per_leg=2, frames_per_second=5, with_captions=False
    )
    read, info = frames_of(path)
    made = tour_frames(np.stack([np.array(Image.open(p))[..., None] for p in vertex_files(run)]), 2)
    assert len(read) == len(made)
    worst = max(
        np.abs(a.astype(int) - b.astype(int)).max() for a, b in zip(read, made, strict=True)
    )
    # Each frame has at most 256 values, but Pillow may build its palette from fewer bits.
    assert worst <= 8
    assert info["duration"] == 200


def test_equal_runs_give_equal_animations(run, tmp_path):
    first, second = (
        write_tour(run, tmp_path / f"{name}.webp", samples_per_leg=1, with_captions=False)
        for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["tour.mp4", "tour"])
def test_other_formats_are_refused(run, tmp_path, name):
    with pytest.raises(RunError, match=r"should end in \.webp or \.gif"):
        write_tour(run, tmp_path / name)
    with pytest.raises(ImageError, match=r"should end in \.webp or \.gif"):
        write_animation(tmp_path / name, [np.zeros((4, 4, 1), np.uint8)], 0.1)
    assert not (tmp_path / name).exists()


def test_the_command_draws_it(run, tmp_path):
    options = ["--out", str(tmp_path / "a.gif"), "--frames-per-leg", "1"]
    result = CliRunner().invoke(app, ["animate", str(run.folder), *options])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "a.gif")
    sizes = {frame.shape for frame in frames_of(tmp_path / "a.gif")[0]}
    assert sizes == {(224 + 32, 224, 3)}
    result = CliRunner().invoke(app, ["animate", str(run.folder), "--out", "a.mp4"])
    assert result.exit_code == 2
    assert re.search(r"RunError: --out a\.mp4 should end in", result.stderr)
